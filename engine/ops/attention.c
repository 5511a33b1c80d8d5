// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/attention.c — softmax attention, over the paged cache and within images.
#define G_LOG_DOMAIN "vlm-ops"
#include "args.h"
#include "base/error.h"
#include "base/number.h"
#include "ops/attention_coopmat.h"
#include "ops/ops.h"

#define MAX_GROUPS 65535u
#define LOG2_E     1.44269504088896340736f

// One sequence as the kernel reads it (Seq in attention.glsl).
typedef struct attn_seq {
    uint64_t pages;
    uint32_t tok0;
    uint32_t n_row;
    uint32_t slot0;
    uint32_t n_page;
    uint32_t item0;
    uint32_t n_split;
    uint32_t split_pages;
    uint32_t part0;
} attn_seq;

G_STATIC_ASSERT(sizeof(attn_seq) == 40);
G_STATIC_ASSERT(sizeof(vlm_kv_page) == 16);

// Shapes of the kernels. Rows: the most that one KV head serves in the sequence, so that a decode
// step of few heads doesn't compute rows that nobody wants.
typedef struct attn_shape {
    uint32_t max_row;    // sequences with at most so many rows per KV head take this shape
    uint32_t item_rows;  // of a work item: MR, ROWS on matrix units
    vlm_kernel_id kernel;
    vlm_kernel_spec spec;
} attn_shape;

#define N_SHAPE 5

typedef struct attn_call {
    vlm_cmd *cmd;
    const vlm_tensor *dst;
    const vlm_tensor *q;
    const vlm_kv_layout *kv;
    uint32_t layer;
    uint32_t n_head;
    uint32_t group;
    float scale;
    attn_shape shapes[N_SHAPE];  // the last one takes all that is left
} attn_call;

static const attn_shape *shape_of(const attn_call *call, uint32_t n_row)
{
    const attn_shape *shape = call->shapes;

    while (n_row > shape->max_row)
        shape++;
    return shape;
}

// By vlm_kv_type.
static const vlm_kernel_id kernels[VLM_N_KV_TYPE] = { VLM_K_attention, VLM_K_attention,
                                                      VLM_K_attention_q8, VLM_K_attention_q4 };

static uint32_t div_up(uint32_t a, uint32_t b)
{
    return (uint32_t) vlm_u64_div_up(a, b);
}

// Small heads in small subgroups take two groups of slots per step, so that each maximum over the
// subgroup serves more work (13 % faster on lavapipe at 32); for larger heads the code would grow
// more than the speed.
static uint32_t step_groups(const vlm_device *dev, uint32_t head_dim, uint32_t rows)
{
    return dev->subgroup_size <= 8 && head_dim <= 32 && rows == 8 ? 2 : 1;
}

static vlm_kernel_spec make_spec(const vlm_device *dev, uint32_t head_dim, uint32_t rows,
                                 gboolean f32)
{
    return (vlm_kernel_spec){
        .local = { dev->subgroup_size },
        .own = { dev->subgroup_size, head_dim, rows, step_groups(dev, head_dim, rows), f32 },
        .n_own = 5,
    };
}

static void find_shapes(attn_call *call)
{
    const vlm_device *dev = vlm_cmd_device(call->cmd);
    const vlm_kv_layout *kv = call->kv;
    attn_shape *last = &call->shapes[N_SHAPE - 1];
    vlm_kernel_id kernel = VLM_N_KERNEL;
    vlm_kernel_spec spec;
    uint32_t rows = 0;

    for (uint32_t i = 0; i + 1 < N_SHAPE; i++)
        call->shapes[i] = (attn_shape){
            .max_row = 1u << i,
            .item_rows = 1u << i,
            .kernel = kernels[kv->type],
            .spec = make_spec(dev, kv->head_dim, 1u << i, kv->type == VLM_KV_F32),
        };
    *last = call->shapes[N_SHAPE - 2];
    if (kv->type != VLM_KV_F32)  // exact comparisons want f32, and get it
        rows = vlm_attention_coopmat_paged(dev, kv->head_dim, kv->type, &kernel, &spec);
    if (rows > 0) {
        call->shapes[N_SHAPE - 2].max_row = VLM_ATTENTION_COOPMAT_MIN_ROWS - 1;
        *last = (attn_shape){
            .item_rows = rows,
            .kernel = kernel,
            .spec = spec,
        };
    }
    last->max_row = UINT32_MAX;
}

// Fills the tables of all sequences of one shape. Returns the number of sequences. They are split
// into runs of pages until the device has as many work items as its tuning says, no run shorter
// than that says: the result depends on shapes and tuning only.
static uint32_t fill_table(const attn_call *call, const attn_shape *shape,
                           const vlm_kv_sequence *seqs, uint32_t n_seq, attn_seq *table,
                           uint32_t *n_item, uint32_t *n_part, uint32_t *most_rows)
{
    const uint32_t *tuning = vlm_cmd_device(call->cmd)->tuning;
    const uint32_t wanted = tuning[VLM_TUNE_ATTENTION_ITEMS];
    uint32_t n = 0, items = 0;

    for (uint32_t i = 0; i < n_seq; i++) {
        const uint32_t n_row = seqs[i].n_tok * call->group;
        if (shape_of(call, n_row) == shape)
            items += div_up(n_row, shape->item_rows) * call->kv->n_kv_head;
    }
    for (uint32_t i = 0; i < n_seq; i++) {
        const vlm_kv_sequence *seq = &seqs[i];
        const uint32_t n_row = seq->n_tok * call->group;
        uint32_t n_page, n_split = 1;

        if (shape_of(call, n_row) != shape)
            continue;
        n_page = MIN(seq->n_page, (seq->slot0 + seq->n_tok - 1) / VLM_PAGE_TOKENS + 1);
        if (items < wanted)
            n_split = MIN(div_up(wanted, items), n_page / tuning[VLM_TUNE_ATTENTION_PAGES]);
        n_split = MAX(n_split, 1);
        table[n] = (attn_seq){
            .pages = seq->pages,
            .tok0 = seq->tok0,
            .n_row = n_row,
            .slot0 = seq->slot0,
            .n_page = n_page,
            .item0 = *n_item,
            .split_pages = MAX(div_up(n_page, n_split), 1),
            .part0 = *n_part,
        };
        table[n].n_split = MAX(div_up(n_page, table[n].split_pages), 1);
        *n_item += div_up(n_row, shape->item_rows) * table[n].n_split;
        if (table[n].n_split > 1) {
            *n_part += n_row * call->kv->n_kv_head * table[n].n_split;
            *most_rows = MAX(*most_rows, n_row);
        }
        n++;
    }
    return n;
}

static gboolean dispatch_shape(const attn_call *call, const attn_shape *shape,
                               const vlm_kv_sequence *seqs, uint32_t n_seq, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(call->cmd);
    const vlm_kv_layout *kv = call->kv;
    const uint64_t to_layer = 2 * vlm_kv_half_bytes(kv) * call->layer;
    g_autofree attn_seq *table = g_new(attn_seq, n_seq);
    uint32_t n_item = 0, n_part = 0, most_rows = 0;
    const uint32_t n = fill_table(call, shape, seqs, n_seq, table, &n_item, &n_part, &most_rows);
    uint64_t table_addr = 0, part = 0;

    if (n == 0)
        return TRUE;
    if (!vlm_cmd_table(call->cmd, table, n * sizeof *table, &table_addr, error))
        return FALSE;
    if (n_part
        && !vlm_cmd_scratch(call->cmd, (size_t) n_part * (kv->head_dim + 2) * 4, &part, error))
        return FALSE;

    struct vlm_args_attention args = {
        .dst = call->dst->addr,
        .q = call->q->addr,
        .seqs = table_addr,
        .part = part,
        .n_seq = n,
        .group = call->group,
        .dst_stride = call->dst->row_stride,
        .q_stride = call->q->row_stride,
        .layer_low = (uint32_t) to_layer,
        .layer_high = (uint32_t) (to_layer >> 32),
        .half_bytes = (uint32_t) vlm_kv_half_bytes(kv),
        .scale = call->scale * LOG2_E,
    };
    if (!vlm_cmd_dispatch(call->cmd, shape->kernel, &shape->spec, &args, sizeof args,
                          (uint32_t[3]){ n_item, kv->n_kv_head, 1 }, error))
        return FALSE;
    if (n_part == 0)
        return TRUE;

    struct vlm_args_attention_merge merge = {
        .dst = call->dst->addr,
        .seqs = table_addr,
        .part = part,
        .group = call->group,
        .dst_stride = call->dst->row_stride,
        .head_dim = kv->head_dim,
    };
    vlm_kernel_spec merge_spec = { .local = { dev->subgroup_size } };
    vlm_cmd_barrier(call->cmd);
    return vlm_cmd_dispatch(call->cmd, VLM_K_attention_merge, &merge_spec, &merge, sizeof merge,
                            (uint32_t[3]){ kv->n_kv_head, most_rows, n }, error);
}

static gboolean tensor_aligned(const vlm_tensor *t)
{
    return t->addr % 8 == 0 && t->row_stride % 2 == 0;
}

gboolean vlm_op_attention(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *q,
                          const vlm_kv_sequence *seqs, uint32_t n_seq, const vlm_kv_layout *kv,
                          uint32_t layer, uint32_t n_head, float scale, GError **error)
{
    uint64_t n_tok = 0;
    double flops = 0;

    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(q), error);
    VLM_REQUIRE(tensor_aligned(dst) && tensor_aligned(q), error);
    VLM_REQUIRE(vlm_kv_layout_ok(kv) && kv->head_dim % 8 == 0 && layer < kv->n_layer, error);
    VLM_REQUIRE(n_head >= 1 && n_head % kv->n_kv_head == 0, error);
    VLM_REQUIRE(q->n_col == (uint64_t) n_head * kv->head_dim && q->n_row <= MAX_GROUPS, error);
    VLM_REQUIRE(dst->n_row == q->n_row && dst->n_col == q->n_col, error);
    VLM_REQUIRE(seqs != NULL && n_seq >= 1 && n_seq <= q->n_row, error);
    for (uint32_t i = 0; i < n_seq; i++) {
        VLM_REQUIRE(seqs[i].n_tok >= 1 && seqs[i].pages % 8 == 0, error);
        VLM_REQUIRE((uint64_t) seqs[i].tok0 + seqs[i].n_tok <= q->n_row, error);
        VLM_REQUIRE((uint64_t) seqs[i].slot0 + seqs[i].n_tok <= INT32_MAX, error);
        VLM_REQUIRE(seqs[i].n_page == 0 || seqs[i].pages != 0, error);
        n_tok += seqs[i].n_tok;
        flops += 4.0 * q->n_col * seqs[i].n_tok * (seqs[i].slot0 + 0.5 * seqs[i].n_tok);
    }
    VLM_REQUIRE(n_tok == q->n_row, error);

    attn_call call = {
        .cmd = cmd,
        .dst = dst,
        .q = q,
        .kv = kv,
        .layer = layer,
        .n_head = n_head,
        .group = n_head / kv->n_kv_head,
        .scale = scale,
    };
    find_shapes(&call);
    vlm_cmd_add_cost(cmd, flops);
    for (size_t i = 0; i < N_SHAPE; i++) {
        if (!dispatch_shape(&call, &call.shapes[i], seqs, n_seq, error))
            return FALSE;
    }
    return TRUE;
}

gboolean vlm_op_attention_full(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *qkv,
                               uint32_t n_patch, uint32_t n_head, uint32_t head_dim, float scale,
                               gboolean causal, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    vlm_kernel_id kernel = VLM_K_attention_full;
    vlm_kernel_spec spec;
    uint32_t rows = 0;

    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(qkv), error);
    VLM_REQUIRE(tensor_aligned(dst) && tensor_aligned(qkv), error);
    VLM_REQUIRE(n_head >= 1 && n_head <= 4096, error);
    VLM_REQUIRE(head_dim >= 2 && head_dim <= 256 && head_dim % 2 == 0, error);
    VLM_REQUIRE(dst->n_col == n_head * head_dim && qkv->n_col == 3 * dst->n_col, error);
    VLM_REQUIRE(dst->n_row == qkv->n_row && n_patch >= 1 && qkv->n_row % n_patch == 0, error);

    VLM_REQUIRE((uint64_t) n_patch * qkv->row_stride <= UINT32_MAX / 4, error);

    if (!causal && n_patch >= VLM_ATTENTION_COOPMAT_MIN_ROWS)  // texts are short
        rows = vlm_attention_coopmat_full(dev, head_dim, &kernel, &spec);
    if (rows == 0) {
        kernel = VLM_K_attention_full;
        rows = 8;
        spec = make_spec(dev, head_dim, rows, TRUE);
    }
    const uint32_t n_image = qkv->n_row / n_patch;
    const uint64_t n_item = (uint64_t) n_image * div_up(n_patch, rows);
    VLM_REQUIRE(n_item <= MAX_GROUPS, error);

    struct vlm_args_attention args = {
        .dst = dst->addr,
        .q = qkv->addr,
        .seqs = qkv->addr + (uint64_t) dst->n_col * 4,
        .n_seq = n_patch,
        .group = causal,
        .dst_stride = dst->row_stride,
        .q_stride = qkv->row_stride,
        .half_bytes = dst->n_col * 4,
        .scale = scale * LOG2_E,
    };
    vlm_cmd_add_cost(cmd, 4.0 * dst->n_col * (double) n_patch * qkv->n_row);
    return vlm_cmd_dispatch(cmd, kernel, &spec, &args, sizeof args,
                            (uint32_t[3]){ (uint32_t) n_item, n_head, 1 }, error);
}

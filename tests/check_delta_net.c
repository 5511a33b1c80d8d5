// SPDX-License-Identifier: LGPL-2.1-or-later
// check_delta_net.c — layers with a recurrent state against their reference.
#include "check.h"
#include "ref_delta_net.h"

#include <math.h>
#include <string.h>

#define MAX_SEQ 4u
#define GAP_TOK 3u  // rows between sequences that belong to none

// Lengths of the sequences of a case; 0 ends the list.
typedef struct lengths {
    uint32_t n[MAX_SEQ];
} lengths;

static uint32_t count(const lengths *len, uint32_t *n_row)
{
    uint32_t n = 0;

    *n_row = 0;
    for (; n < MAX_SEQ && len->n[n] > 0; n++)
        *n_row += len->n[n] + GAP_TOK;
    return n;
}

// The table of sequences; each state is `bytes` long, what belongs to the layer `offset` behind its
// start.
static check_buf *make_table(check *ck, const lengths *len, uint32_t n_seq, const check_buf *states,
                             uint64_t bytes)
{
    check_buf *table = check_buf_new(ck, n_seq * sizeof(vlm_state_rows));
    vlm_state_rows *rows = table->data;
    uint32_t tok = GAP_TOK;

    for (uint32_t i = 0; i < n_seq; i++) {
        // states lie in the other order
        rows[i] = (vlm_state_rows){ states->addr + (n_seq - 1 - i) * bytes, tok, len->n[i] };
        tok += len->n[i] + GAP_TOK;
    }
    return table;
}

static void fill_rows(check *ck, check_buf *buf, const check_buf *table, uint32_t n_seq,
                      uint32_t n_col, uint32_t stride, check_fill fill, float factor)
{
    for (uint32_t i = 0; i < n_seq; i++) {
        const vlm_state_rows *rows = (const vlm_state_rows *) table->data + i;
        for (uint32_t t = rows->tok0; t < rows->tok0 + rows->n_tok; t++) {
            float *x = (float *) buf->data + (size_t) t * stride;
            check_fill_f32(ck, x, n_col, fill);
            for (uint32_t c = 0; c < n_col; c++)
                x[c] *= factor;
        }
    }
}

// Rows that belong to no sequence are as they were.
static char *compare_gaps(const check_buf *out, const check_buf *table, uint32_t n_seq,
                          uint32_t stride)
{
    const vlm_state_rows *rows = table->data;

    for (uint32_t i = 0; i < n_seq; i++) {
        const uint32_t from = i == 0 ? 0 : rows[i - 1].tok0 + rows[i - 1].n_tok;
        for (uint32_t j = from * stride; j < rows[i].tok0 * stride; j++)
            if (((const uint32_t *) out->data)[j] != UNWRITTEN)
                return g_strdup_printf("row %u between sequences was written", j / stride);
    }
    return NULL;
}

// exp() within 3 + 2 |x| ULP; four products, whose sum may cancel: relative to the terms.
static tolerance conv_tolerance(check_fill fill)
{
    const double most = fill == FILL_LARGE ? 1e15 : fill == FILL_OFFSET ? 1e3 : 1;

    return (tolerance){ .absolute = 2e-6 * most, .relative = 2.5e-5 };
}

static void conv_case(check *ck, uint32_t n_col, uint32_t gap, gboolean in_place, lengths len,
                      check_fill fill)
{
    const uint32_t stride = n_col + gap;
    const uint64_t offset = 20, bytes = offset + vlm_conv_state_bytes(n_col) + 8;
    uint32_t n_row, n_seq = count(&len, &n_row);
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("conv %u columns gap %u, %u sequences, first %u %s%s", n_col, gap, n_seq,
                        len.n[0], check_fill_name[fill], in_place ? " in place" : "");
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) weight = check_buf_new(ck, (size_t) n_col * 16);
    g_autoptr(check_buf) states = check_buf_new(ck, (size_t) (n_seq * bytes));
    g_autoptr(check_buf) table = make_table(ck, &len, n_seq, states, bytes);
    g_autofree double *y = g_new(double, n_row);
    g_autofree double *want = g_new(double, (size_t) n_row *n_col);
    check_buf *bufs[] = { dst, src, weight, states, table };
    check_buf *out = in_place ? src : dst;
    const vlm_tensor t_dst = { out->addr, n_row, n_col, stride };
    const vlm_tensor t_src = { src->addr, n_row, n_col, stride };

    check_fill_f32(ck, weight->data, (size_t) n_col * 4, FILL_NORMAL);
    check_fill_f32(ck, states->data, states->bytes / 4, FILL_NORMAL);
    fill_rows(ck, src, table, n_seq, n_col, stride, fill, 1.0f);
    g_autofree float *before = g_memdup2(states->data, states->bytes);
    g_autofree float *input = g_memdup2(src->data, src->bytes);
    const gboolean ok = vlm_cmd_begin(ck->cmd, &error)
                        && vlm_op_causal_conv(ck->cmd, &t_dst, &t_src, weight->addr, table->addr,
                                              n_seq, offset, &error);
    if (!check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        return;
    char *why = compare_gaps(out, table, n_seq, stride);
    for (uint32_t i = 0; !why && i < n_seq; i++) {
        const vlm_state_rows *rows = (const vlm_state_rows *) table->data + i;
        const size_t at = (size_t) rows->tok0 * stride;
        float *s = before + (rows->state - states->addr + offset) / 4;
        for (uint32_t c = 0; c < n_col; c++) {
            const float *w = (const float *) weight->data + 4 * (size_t) c;
            float last[3] = { s[c], s[n_col + c], s[2 * n_col + c] };
            ref_causal_conv(y, input + at + c, rows->n_tok, stride, w, last);
            for (uint32_t t = 0; t < rows->n_tok; t++)
                want[(size_t) t * n_col + c] = y[t];
            for (uint32_t j = 0; j < 3; j++)
                s[j * n_col + c] = last[j];
        }
        why = compare_f32((const float *) out->data + at, want, rows->n_tok, n_col, stride,
                          conv_tolerance(fill));
    }
    if (!why && memcmp(before, states->data, states->bytes) != 0)
        why = g_strdup("a state is wrong, or something beside it was written");
    check_verdict(ck, what, why);
}

typedef struct delta_case {
    vlm_delta_shape shape;
    uint32_t gap;
    lengths len;
    check_fill fill;
    float rate;      // what alpha, beta and dt_bias are multiplied by
    gboolean steps;  // in calls of one token each
} delta_case;

// Buffers of a case.
typedef struct delta_bufs {
    check_buf *dst, *qkv, *alpha, *beta, *dt_bias, *a, *states, *table;
} delta_bufs;

static gboolean record_delta(check *ck, const delta_case *c, const delta_bufs *b, uint32_t n_row,
                             uint32_t n_seq, uint64_t offset, GError **error)
{
    const uint32_t d = c->shape.head_dim, hv = c->shape.n_v_head, gap = c->gap;
    const uint32_t n_qkv = (2 * c->shape.n_k_head + hv) * d;
    const vlm_tensor dst = { b->dst->addr, n_row, hv * d, hv * d + gap };
    const vlm_tensor qkv = { b->qkv->addr, n_row, n_qkv, n_qkv + gap };
    const vlm_tensor alpha = { b->alpha->addr, n_row, hv, hv + gap };
    const vlm_tensor beta = { b->beta->addr, n_row, hv, hv + gap };
    const vlm_state_rows *all = b->table->data;
    uint32_t most = 0;

    for (uint32_t i = 0; i < n_seq; i++)
        most = MAX(most, all[i].n_tok);
    for (uint32_t t = 0; t < (c->steps ? most : 1); t++) {
        vlm_state_rows part[MAX_SEQ];
        uint64_t table = b->table->addr;
        uint32_t n = 0;
        for (uint32_t i = 0; c->steps && i < n_seq; i++)
            if (t < all[i].n_tok)
                part[n++] = (vlm_state_rows){ all[i].state, all[i].tok0 + t, 1 };
        if ((c->steps && !vlm_cmd_table(ck->cmd, part, n * sizeof *part, &table, error))
            || !vlm_op_delta_rule(ck->cmd, &dst, &qkv, &alpha, &beta, b->dt_bias->addr, b->a->addr,
                                  &c->shape, table, c->steps ? n : n_seq, offset, error))
            return FALSE;
        vlm_cmd_barrier(ck->cmd);
    }
    return TRUE;
}

// One head of one sequence: what it should give, y [n_tok, hv * d], and the state after. Returns
// the scale of it all.
static double expect_head(const delta_case *c, const delta_bufs *b, const vlm_state_rows *rows,
                          const float *before, double *y, double *s, uint32_t h)
{
    const uint32_t d = c->shape.head_dim, hk = c->shape.n_k_head, hv = c->shape.n_v_head;
    const size_t n_qkv = (2 * hk + hv) * d + c->gap;
    double most = 1e-30;

    for (uint32_t i = 0; i < d * d; i++) {
        s[i] = before[i];
        most = MAX(most, fabs(s[i]));
    }
    for (uint32_t t = 0; t < rows->n_tok; t++) {
        const size_t tok = rows->tok0 + t;
        const float *x = (const float *) b->qkv->data + tok * n_qkv;
        const float *v = x + (2 * hk + h) * d;
        ref_delta_rule(y + (size_t) t * hv * d, s, x + (h % hk) * d, x + (hk + h % hk) * d, v,
                       ((const float *) b->alpha->data)[tok * (hv + c->gap) + h],
                       ((const float *) b->beta->data)[tok * (hv + c->gap) + h],
                       ((const float *) b->dt_bias->data)[h], ((const float *) b->a->data)[h], d);
        for (uint32_t i = 0; i < d; i++)
            most = MAX(most, fabs(v[i]));
    }
    return most;
}

// Outputs of one sequence and its state after.
static char *compare_sequence(const delta_case *c, const delta_bufs *b, const vlm_state_rows *rows,
                              const float *before, uint64_t offset)
{
    const uint32_t d = c->shape.head_dim, hv = c->shape.n_v_head, stride = hv * d + c->gap;
    const size_t state = (rows->state - b->states->addr + offset) / 4;
    g_autofree double *s = g_new(double, (size_t) hv *d *d);
    g_autofree double *y = g_new(double, (size_t) rows->n_tok *hv *d);
    double most = 0;

    for (uint32_t h = 0; h < hv; h++) {
        const size_t at = (size_t) h * d * d;
        most =
            MAX(most, expect_head(c, b, rows, before + state + at, y + (size_t) h * d, s + at, h));
    }
    // Sums of d terms in order, 2^-24 of the magnitudes each: sqrt(d) is typical, and what one
    // token gets wrong is damped or forgotten, not amplified (|k| = 1, a rate below 1).
    const tolerance tol = { .absolute = most * 6e-6, .relative = 1e-5 };
    char *why = compare_f32((const float *) b->dst->data + (size_t) rows->tok0 * stride, y,
                            rows->n_tok, hv * d, stride, tol);
    if (why)
        return why;
    g_autofree char *wrong =
        compare_f32((const float *) b->states->data + state, s, hv * d, d, d, tol);
    return wrong ? g_strdup_printf("state: %s", wrong) : NULL;
}

static void delta(check *ck, const delta_case *c)
{
    const uint32_t d = c->shape.head_dim, hv = c->shape.n_v_head, gap = c->gap;
    const uint32_t n_qkv = (2 * c->shape.n_k_head + hv) * d;
    const uint64_t offset = 12, bytes = offset + vlm_delta_state_bytes(&c->shape) + 8;
    uint32_t n_row, n_seq = count(&c->len, &n_row);
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("delta D %u heads %u/%u gap %u, %u sequences, first %u %s x %g%s", d,
                        c->shape.n_k_head, hv, gap, n_seq, c->len.n[0], check_fill_name[c->fill],
                        (double) c->rate, c->steps ? " in steps" : "");
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_row * (hv * d + gap) * 4);
    g_autoptr(check_buf) qkv = check_buf_new(ck, (size_t) n_row * (n_qkv + gap) * 4);
    g_autoptr(check_buf) alpha = check_buf_new(ck, (size_t) n_row * (hv + gap) * 4);
    g_autoptr(check_buf) beta = check_buf_new(ck, (size_t) n_row * (hv + gap) * 4);
    g_autoptr(check_buf) dt_bias = check_buf_new(ck, hv * 4);
    g_autoptr(check_buf) a = check_buf_new(ck, hv * 4);
    g_autoptr(check_buf) states = check_buf_new(ck, (size_t) (n_seq * bytes));
    g_autoptr(check_buf) table = make_table(ck, &c->len, n_seq, states, bytes);
    const delta_bufs b = { dst, qkv, alpha, beta, dt_bias, a, states, table };
    check_buf *bufs[] = { dst, qkv, alpha, beta, dt_bias, a, states, table };

    check_fill_f32(ck, states->data, states->bytes / 4, FILL_NORMAL);
    fill_rows(ck, qkv, table, n_seq, n_qkv, n_qkv + gap, c->fill, 1.0f);
    fill_rows(ck, alpha, table, n_seq, hv, hv + gap, FILL_NORMAL, c->rate);
    fill_rows(ck, beta, table, n_seq, hv, hv + gap, FILL_NORMAL, c->rate);
    check_fill_f32(ck, dt_bias->data, hv, FILL_NORMAL);
    for (uint32_t h = 0; h < hv; h++)
        ((float *) a->data)[h] = -expf((float) g_rand_double_range(ck->rand, -4.5, 2.7));
    g_autofree float *before = g_memdup2(states->data, states->bytes);
    const gboolean ok =
        vlm_cmd_begin(ck->cmd, &error) && record_delta(ck, c, &b, n_row, n_seq, offset, &error);
    if (!check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        return;
    char *why = compare_gaps(dst, table, n_seq, hv * d + gap);
    for (uint32_t i = 0; !why && i < n_seq; i++)
        why = compare_sequence(c, &b, (const vlm_state_rows *) table->data + i, before, offset);
    for (uint32_t i = 0; !why && i < n_seq; i++) {  // what lies around the layer's part
        const char *x = (const char *) before + i * bytes;
        const char *y = (const char *) states->data + i * bytes;
        if (memcmp(x, y, offset) != 0 || memcmp(x + bytes - 8, y + bytes - 8, 8) != 0)
            why = g_strdup_printf("something beside state %u was written", i);
    }
    check_verdict(ck, what, why);
}

// n tokens at once are n times one token, to the bit.
static void same_case(check *ck, uint32_t d, uint32_t n_tok)
{
    const vlm_delta_shape shape = { 1, 2, d };
    const uint32_t n_qkv = 4 * d;
    g_autofree char *what =
        g_strdup_printf("delta D %u: %u tokens at once or one by one", d, n_tok);
    g_autoptr(check_buf) qkv = check_buf_new(ck, (size_t) n_tok * n_qkv * 4);
    g_autoptr(check_buf) gates = check_buf_new(ck, (size_t) n_tok * 2 * 4);
    g_autoptr(check_buf) heads = check_buf_new(ck, 16);
    g_autoptr(check_buf) at_once = check_buf_new(ck, (size_t) n_tok * 2 * d * 4);
    g_autoptr(check_buf) stepwise = check_buf_new(ck, (size_t) n_tok * 2 * d * 4);
    g_autoptr(check_buf) state = check_buf_new(ck, (size_t) vlm_delta_state_bytes(&shape));
    g_autoptr(check_buf) step_state = check_buf_new(ck, (size_t) vlm_delta_state_bytes(&shape));
    check_buf *dst[2] = { at_once, stepwise }, *states[2] = { state, step_state };
    const vlm_tensor t_qkv = vlm_tensor_make(qkv->addr, n_tok, n_qkv);
    const vlm_tensor t_gate = vlm_tensor_make(gates->addr, n_tok, 2);
    g_autoptr(GError) error = NULL;
    gboolean ok = vlm_cmd_begin(ck->cmd, &error);

    check_fill_f32(ck, qkv->data, qkv->bytes / 4, FILL_NORMAL);
    check_fill_f32(ck, gates->data, gates->bytes / 4, FILL_NORMAL);
    memcpy(heads->data, (const float[4]){ 0.3f, -0.7f, -0.2f, -3.0f }, 16);
    for (int i = 0; i < 2; i++) {
        memset(states[i]->data, 0, states[i]->bytes);
        const vlm_tensor t_dst = vlm_tensor_make(dst[i]->addr, n_tok, 2 * d);
        for (uint32_t t = 0; ok && t < n_tok; t += i ? 1 : n_tok) {
            const vlm_state_rows rows = { states[i]->addr, t, i ? 1 : n_tok };
            uint64_t table = 0;
            ok = vlm_cmd_table(ck->cmd, &rows, sizeof rows, &table, &error)
                 && vlm_op_delta_rule(ck->cmd, &t_dst, &t_qkv, &t_gate, &t_gate, heads->addr,
                                      heads->addr + 8, &shape, table, 1, 0, &error);
            vlm_cmd_barrier(ck->cmd);
        }
    }
    check_buf *bufs[] = { qkv, gates, heads, dst[0], dst[1], states[0], states[1] };
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what,
                      memcmp(dst[0]->data, dst[1]->data, dst[0]->bytes) != 0
                              || memcmp(states[0]->data, states[1]->data, states[0]->bytes) != 0
                          ? g_strdup("they differ")
                          : NULL);
}

void check_delta_net(check *ck)
{
    // 1, around a subgroup, a prime, the published widths of 0.8B and 35B-A3B
    static const uint32_t cols[] = { 1, 7, 8, 9, 33, 1009, 6144, 8192 };
    static const delta_case cases[] = {
        { { 1, 1, 4 }, 0, { { 1 } }, FILL_NORMAL, 1.0f, FALSE },
        { { 1, 1, 8 }, 1, { { 5 } }, FILL_NORMAL, 1.0f, FALSE },
        { { 2, 4, 12 }, 0, { { 3, 1, 7, 2 } }, FILL_NORMAL, 1.0f, FALSE },
        { { 2, 4, 32 }, 3, { { 40, 1 } }, FILL_NORMAL, 1.0f, FALSE },
        { { 3, 3, 36 }, 0, { { 6, 4 } }, FILL_NORMAL, 1.0f, TRUE },
        { { 2, 2, 64 }, 0, { { 17 } }, FILL_NORMAL, 10.0f, FALSE },
        { { 2, 6, 128 }, 0, { { 65, 1, 3 } }, FILL_NORMAL, 1.0f, FALSE },
        { { 2, 4, 128 }, 5, { { 9, 2 } }, FILL_NORMAL, 1.0f, TRUE },
        { { 16, 32, 128 }, 0, { { 1, 1 } }, FILL_NORMAL, 1.0f, FALSE },
        { { 1, 2, 256 }, 0, { { 4, 3 } }, FILL_NORMAL, 1.0f, FALSE },
        { { 1, 2, 32 }, 0, { { 5 } }, FILL_NORMAL, 60.0f, FALSE },
    };

    if (ck->dev->caps)  // no variants: the first rung has seen it all
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(cols); i++) {
        conv_case(ck, cols[i], 0, FALSE, (lengths){ { 1 } }, FILL_NORMAL);
        conv_case(ck, cols[i], i % 3, TRUE, (lengths){ { 2, 1, 3, 11 } }, FILL_NORMAL);
    }
    for (int fill = 0; fill < N_FILL; fill++) {
        conv_case(ck, 130, 0, FALSE, (lengths){ { 17, 4 } }, (check_fill) fill);
        delta_case c = { { 2, 4, 32 }, 0, { { 6, 2 } }, (check_fill) fill, 1.0f, FALSE };
        delta(ck, &c);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        delta(ck, &cases[i]);
    same_case(ck, 32, 70);
    same_case(ck, 128, 9);
}

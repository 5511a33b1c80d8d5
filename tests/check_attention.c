// SPDX-License-Identifier: LGPL-2.1-or-later
// check_attention.c — attention over pages and within images against its reference.
#include "check.h"
#include "ref_attention.h"
#include "ref_kv.h"

#include <math.h>
#include <stdio.h>

#include "base/number.h"

#define N_LAYER 2  // the other layer of each page is never written and must not be read

// One sequence of a case: what its pages look like.
typedef struct seq_case {
    uint32_t n_tok;
    uint32_t slot0;
    uint32_t first_begin;  // of page 0: older slots were let go
    uint32_t hole;         // page that ends early (at 5) or, with its top bit, is empty; 0 = none
} seq_case;

#define EMPTY 0x80000000u

typedef struct attn_case {
    uint32_t head_dim;
    uint32_t n_head;
    uint32_t n_kv_head;
    vlm_kv_type type;
    check_fill q_fill;
    check_fill v_fill;
    seq_case seq[4];
} attn_case;

static void store_row(void *head, const attn_case *c, uint32_t slot, const float *row)
{
    for (uint32_t d = 0; d < c->head_dim && vlm_kv_bits(c->type) >= 16; d++) {
        if (c->type == VLM_KV_F32)
            ((float *) head)[slot * c->head_dim + d] = row[d];
        else
            ((uint16_t *) head)[slot * c->head_dim + d] = vlm_f32_to_f16(row[d]);
    }
    if (vlm_kv_bits(c->type) < 16)
        ref_kv_store(head, (int) vlm_kv_bits(c->type), c->head_dim, slot, row);
}

// Fills the valid slots of one layer of a page; all others keep their NaN.
static void fill_page(check *ck, const attn_case *c, char *layer, size_t head_bytes, uint32_t begin,
                      uint32_t end, double *v_max)
{
    g_autofree float *row = g_new(float, c->head_dim);

    for (uint32_t half = 0; half < 2; half++) {
        for (uint32_t h = 0; h < c->n_kv_head; h++) {
            for (uint32_t s = begin; s < end; s++) {
                check_fill_f32(ck, row, c->head_dim, half ? c->v_fill : FILL_NORMAL);
                store_row(layer + (half * c->n_kv_head + h) * head_bytes, c, s, row);
                for (uint32_t d = 0; d < c->head_dim && half; d++)
                    *v_max = MAX(*v_max, fabs((double) row[d]));
            }
        }
    }
}

// The rounding of a score is at most its terms' size times the length of the sum times 2^-24,
// in practice about the square root of that length; it changes weights by the same relative
// amount, and outputs by twice that times the largest value. exp2 and the sums add 4e-6.
//
// Matrix units round q and k to 11 bits, by 2^-12 on average: a score of n terms is off by as much
// of their size over the root of n, at most by 2^-10 of it; values and weights by 2^-11 each.
static tolerance tolerance_of(double score_size, double v_max, gboolean matrix_units)
{
    const double rounding = matrix_units ? 0x1p-10 + score_size * 0x1p-11 : 0;

    return (tolerance){ .absolute = (4e-6 + score_size * 1e-6 + rounding) * v_max + 1e-37 };
}

// Scores are `sharp` times as large as those of common models.
static void attention_case(check *ck, const attn_case *c, uint32_t gap, double sharp)
{
    const uint32_t layer = 1, width = c->n_head * c->head_dim, stride = width + gap;
    const vlm_kv_layout kv = { c->type, N_LAYER, c->n_kv_head, c->head_dim };
    const size_t page_bytes = vlm_kv_page_bytes(&kv), layer_bytes = 2 * vlm_kv_half_bytes(&kv);
    const ref_heads heads = { c->n_head, c->n_kv_head, c->head_dim, (int) vlm_kv_bits(c->type),
                              sharp / sqrt(c->head_dim) };
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf(
        "hd %u heads %u/%u %s q %s v %s x%g gap %u tok %u+%u+%u+%u slot %u+%u+%u+%u", c->head_dim,
        c->n_head, c->n_kv_head, check_kv_name[c->type], check_fill_name[c->q_fill],
        check_fill_name[c->v_fill], sharp, gap, c->seq[0].n_tok, c->seq[1].n_tok, c->seq[2].n_tok,
        c->seq[3].n_tok, c->seq[0].slot0, c->seq[1].slot0, c->seq[2].slot0, c->seq[3].slot0);
    uint32_t n_tok = 0, n_page = 0, n_seq = 0;
    double most = 0, v_max = 0;
    gboolean ok;

    for (; n_seq < 4 && c->seq[n_seq].n_tok; n_seq++) {
        n_tok += c->seq[n_seq].n_tok;
        n_page += (c->seq[n_seq].slot0 + c->seq[n_seq].n_tok - 1) / 64 + 1;
    }
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_tok * stride * 4);
    g_autoptr(check_buf) q = check_buf_new(ck, (size_t) n_tok * stride * 4);
    g_autoptr(check_buf) pages = check_buf_new(ck, n_page * page_bytes);
    g_autoptr(check_buf) table = check_buf_new(ck, n_page * sizeof(vlm_kv_page));
    g_autofree double *want = g_new0(double, (size_t) n_tok *width);
    g_autofree ref_page *ref = g_new0(ref_page, n_page);
    check_buf *bufs[] = { dst, q, pages, table };
    vlm_kv_sequence seqs[4];
    uint32_t tok = 0, page0 = 0;

    for (uint32_t t = 0; t < n_tok; t++)
        check_fill_f32(ck, (float *) q->data + (size_t) t * stride, width, c->q_fill);
    for (uint32_t i = 0; i < n_seq; i++) {
        const seq_case *s = &c->seq[i];
        const uint32_t n = (s->slot0 + s->n_tok - 1) / 64 + 1;

        for (uint32_t j = 0; j < n; j++) {
            // pages lie in the reverse of their order
            const size_t at = (size_t) (n_page - 1 - page0 - j) * page_bytes;
            vlm_kv_page *page = (vlm_kv_page *) table->data + page0 + j;
            page->addr = pages->addr + at;
            page->begin = j == 0 ? s->first_begin : 0;
            page->end = j + 1 < n ? 64 : (s->slot0 + s->n_tok - 1) % 64 + 1;
            if (s->hole && j == (s->hole & ~EMPTY))
                page->end = s->hole & EMPTY ? page->begin : 5;
            fill_page(ck, c, (char *) pages->data + at + layer * layer_bytes,
                      vlm_kv_head_bytes(&kv), page->begin, page->end, &v_max);
            ref[page0 + j] = (ref_page){ (char *) pages->data + at + layer * layer_bytes,
                                         page->begin, page->end };
        }
        seqs[i] = (vlm_kv_sequence){ table->addr + page0 * sizeof(vlm_kv_page), n, tok, s->n_tok,
                                     s->slot0 };
        most = MAX(most, ref_attention(want + (size_t) tok * width,
                                       (float *) q->data + (size_t) tok * stride, stride,
                                       ref + page0, n, s->n_tok, s->slot0, &heads));
        tok += s->n_tok;
        page0 += n;
    }
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_attention(ck->cmd, &(vlm_tensor){ dst->addr, n_tok, width, stride },
                             &(vlm_tensor){ q->addr, n_tok, width, stride }, seqs, n_seq, &kv,
                             layer, c->n_head, (float) heads.scale, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what,
                      compare_f32(dst->data, want, n_tok, width, stride,
                                  tolerance_of(most, v_max, ck->dev->caps & VLM_CAP_COOPMAT)));
}

static void full_case(check *ck, uint32_t head_dim, uint32_t n_head, uint32_t n_image,
                      uint32_t n_patch, uint32_t gap, gboolean causal, check_fill fill,
                      double sharp)
{
    const uint32_t width = n_head * head_dim, n_row = n_image * n_patch;
    const uint32_t stride = width + gap, src_stride = 3 * width + gap;
    const ref_heads heads = { n_head, n_head, head_dim, 32, sharp / sqrt(head_dim) };
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("%s hd %u heads %u images %u of %u gap %u %s x%g",
                                            causal ? "causal" : "full", head_dim, n_head, n_image,
                                            n_patch, gap, check_fill_name[fill], sharp);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) qkv = check_buf_new(ck, (size_t) n_row * src_stride * 4);
    g_autofree double *want = g_new0(double, (size_t) n_row *width);
    check_buf *bufs[] = { dst, qkv };
    double most, v_max = 0;
    gboolean ok;

    for (uint32_t r = 0; r < n_row; r++) {
        float *row = (float *) qkv->data + (size_t) r * src_stride;
        check_fill_f32(ck, row, width, fill == FILL_LARGE ? FILL_NORMAL : fill);
        check_fill_f32(ck, row + width, width, FILL_NORMAL);
        check_fill_f32(ck, row + 2 * width, width, fill);
        for (uint32_t i = 2 * width; i < 3 * width; i++)
            v_max = MAX(v_max, fabs((double) row[i]));
    }
    most = ref_attention_full(want, qkv->data, src_stride, n_row, n_patch, causal, &heads);
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_attention_full(ck->cmd, &(vlm_tensor){ dst->addr, n_row, width, stride },
                                  &(vlm_tensor){ qkv->addr, n_row, 3 * width, src_stride }, n_patch,
                                  n_head, head_dim, (float) heads.scale, causal, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what,
                      compare_f32(dst->data, want, n_row, width, stride,
                                  tolerance_of(most, v_max, ck->dev->caps & VLM_CAP_COOPMAT)));
}

// More rows than a tile of matrix units, or as many; a first slot in mid-page; runs of pages that
// are split and joined again; heads that end inside a matrix.
static void coopmat_cases(check *ck)
{
    static const attn_case cases[] = {
        { 64, 2, 2, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 32, 0, 0, 0 } } },
        { 64, 6, 2, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 50, 63, 0, 0 }, { 11, 64, 0, 0 } } },
        { 32, 8, 1, VLM_KV_F16, FILL_NORMAL, FILL_OFFSET, { { 90, 130, 3, 1 }, { 1, 200, 0, 0 } } },
        { 128, 4, 2, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 70, 700, 37, EMPTY | 2 } } },
        { 72, 4, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 33, 30, 31, 0 }, { 70, 7, 0, 0 } } },
        { 256, 4, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 40, 150, 0, 0 } } },
        { 64, 4, 2, VLM_KV_F16, FILL_ZERO, FILL_OFFSET, { { 49, 70, 0, EMPTY | 0 } } },
        { 64, 6, 2, VLM_KV_Q8, FILL_NORMAL, FILL_NORMAL, { { 50, 63, 0, 0 }, { 11, 64, 0, 0 } } },
        { 72, 4, 1, VLM_KV_Q8, FILL_NORMAL, FILL_OFFSET, { { 33, 330, 31, 1 } } },
        { 128, 4, 2, VLM_KV_Q8, FILL_NORMAL, FILL_LARGE, { { 70, 100, 37, 0 } } },
        { 64, 6, 2, VLM_KV_Q4, FILL_NORMAL, FILL_NORMAL, { { 50, 63, 0, 0 }, { 11, 64, 0, 0 } } },
        { 72, 4, 1, VLM_KV_Q4, FILL_NORMAL, FILL_OFFSET, { { 33, 330, 31, 1 } } },
        { 128, 4, 2, VLM_KV_Q4, FILL_NORMAL, FILL_NORMAL, { { 70, 100, 37, 0 } } },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        attention_case(ck, &cases[i], i % 2 ? 6 : 0, 1);
    // maxima that outgrow the exponents' reference again and again
    for (size_t i = 1; i < 6; i++)
        attention_case(ck, &cases[i], 0, 10);
    full_case(ck, 64, 1, 1, 300, 0, FALSE, FILL_NORMAL, 10);
    full_case(ck, 32, 2, 3, 32, 2, FALSE, FILL_NORMAL, 1);
    full_case(ck, 64, 3, 2, 64, 0, FALSE, FILL_OFFSET, 1);
    full_case(ck, 72, 2, 1, 131, 4, FALSE, FILL_NORMAL, 1);
    full_case(ck, 80, 1, 2, 77, 2, FALSE, FILL_NORMAL, 1);
    full_case(ck, 128, 1, 1, 300, 0, FALSE, FILL_NORMAL, 1);
    full_case(ck, 64, 2, 1, 77, 2, TRUE, FILL_NORMAL, 1);
}

// The same with matrices of 16 rows. CPU drivers make these of smaller ones, one after the other,
// so that their compilers take a minute for a head of 64: narrow ones.
static void tall_cases(check *ck)
{
    static const attn_case cases[] = {
        { 32, 8, 1, VLM_KV_F16, FILL_NORMAL, FILL_OFFSET, { { 90, 130, 3, 1 }, { 1, 200, 0, 0 } } },
        { 24, 4, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 33, 30, 31, 0 }, { 70, 7, 0, 0 } } },
        { 32, 4, 2, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 70, 700, 37, EMPTY | 2 } } },
        { 32, 4, 2, VLM_KV_F16, FILL_ZERO, FILL_OFFSET, { { 49, 70, 0, EMPTY | 0 } } },
        { 24, 6, 2, VLM_KV_Q8, FILL_NORMAL, FILL_NORMAL, { { 50, 63, 0, 0 }, { 11, 64, 0, 0 } } },
        { 32, 6, 2, VLM_KV_Q4, FILL_NORMAL, FILL_NORMAL, { { 33, 330, 31, 1 } } },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        attention_case(ck, &cases[i], i % 2 ? 6 : 0, 1);
    for (size_t i = 0; i < 3; i++)
        attention_case(ck, &cases[i], 0, 10);
    full_case(ck, 32, 1, 1, 300, 0, FALSE, FILL_NORMAL, 10);
    full_case(ck, 32, 2, 3, 32, 2, FALSE, FILL_NORMAL, 1);
    full_case(ck, 32, 3, 2, 64, 0, FALSE, FILL_OFFSET, 1);
    full_case(ck, 24, 2, 1, 131, 4, FALSE, FILL_NORMAL, 1);
    full_case(ck, 32, 2, 1, 77, 2, TRUE, FILL_NORMAL, 1);
}

void check_attention(check *ck)
{
    // one token alone; around a subgroup and a page; pages with holes; prefill beside decode
    static const attn_case cases[] = {
        { 64, 2, 2, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 1, 0, 0, 0 } } },
        { 64, 2, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 7, 0, 0, 0 } } },
        { 64, 6, 2, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 1, 63, 0, 0 }, { 1, 64, 0, 0 } } },
        { 64,
          4,
          2,
          VLM_KV_F16,
          FILL_NORMAL,
          FILL_NORMAL,
          { { 1, 130, 3, 1 }, { 5, 200, 63, EMPTY | 2 }, { 33, 30, 31, 0 }, { 2, 7, 0, 0 } } },
        { 64,
          4,
          2,
          VLM_KV_F32,
          FILL_NORMAL,
          FILL_LARGE,
          { { 9, 70, 0, EMPTY | 0 }, { 1, 9, 0, 0 } } },
        { 64, 4, 2, VLM_KV_F32, FILL_OFFSET, FILL_NORMAL, { { 9, 70, 0, 0 }, { 1, 9, 0, 0 } } },
        { 64, 4, 2, VLM_KV_F16, FILL_ZERO, FILL_OFFSET, { { 9, 70, 0, 0 }, { 1, 90, 0, 0 } } },
        { 128,
          16,
          2,
          VLM_KV_F16,
          FILL_NORMAL,
          FILL_NORMAL,
          { { 1, 1100, 11, 3 }, { 20, 100, 0, 0 } } },
        { 128, 1, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 1, 2222, 0, EMPTY | 1 } } },
        { 32, 4, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 11, 60, 0, 0 } } },
        { 72, 2, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 11, 60, 0, 0 } } },
        { 80, 2, 1, VLM_KV_F32, FILL_NORMAL, FILL_NORMAL, { { 11, 60, 0, 0 } } },
        { 96, 2, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 11, 60, 0, 0 } } },
        { 256, 2, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 11, 60, 0, 0 } } },
        { 32, 6, 2, VLM_KV_Q8, FILL_NORMAL, FILL_NORMAL, { { 11, 60, 0, 0 }, { 1, 300, 3, 1 } } },
        { 64, 2, 1, VLM_KV_Q8, FILL_NORMAL, FILL_NORMAL, { { 1, 0, 0, 0 }, { 7, 0, 0, 0 } } },
        { 72, 2, 1, VLM_KV_Q8, FILL_NORMAL, FILL_OFFSET, { { 11, 60, 0, 0 }, { 1, 63, 0, 0 } } },
        { 80, 4, 2, VLM_KV_Q8, FILL_OFFSET, FILL_NORMAL, { { 9, 70, 0, 0 }, { 1, 64, 0, 0 } } },
        { 128,
          16,
          2,
          VLM_KV_Q8,
          FILL_NORMAL,
          FILL_LARGE,
          { { 1, 1100, 11, 3 }, { 20, 100, 0, 0 } } },
        { 256, 2, 1, VLM_KV_Q8, FILL_NORMAL, FILL_NORMAL, { { 11, 60, 0, EMPTY | 0 } } },
        { 8, 1, 1, VLM_KV_Q8, FILL_ZERO, FILL_ONE_HOT, { { 5, 130, 3, EMPTY | 1 } } },
        { 32, 6, 2, VLM_KV_Q4, FILL_NORMAL, FILL_NORMAL, { { 11, 60, 0, 0 }, { 1, 300, 3, 1 } } },
        { 64, 2, 1, VLM_KV_Q4, FILL_NORMAL, FILL_NORMAL, { { 1, 0, 0, 0 }, { 7, 0, 0, 0 } } },
        { 72, 2, 1, VLM_KV_Q4, FILL_NORMAL, FILL_OFFSET, { { 11, 60, 0, 0 }, { 1, 63, 0, 0 } } },
        { 80, 4, 2, VLM_KV_Q4, FILL_OFFSET, FILL_NORMAL, { { 9, 70, 0, 0 }, { 1, 64, 0, 0 } } },
        { 128,
          16,
          2,
          VLM_KV_Q4,
          FILL_NORMAL,
          FILL_LARGE,
          { { 1, 1100, 11, 3 }, { 20, 100, 0, 0 } } },
        { 256, 2, 1, VLM_KV_Q4, FILL_NORMAL, FILL_NORMAL, { { 11, 60, 0, EMPTY | 0 } } },
        { 8, 1, 1, VLM_KV_Q4, FILL_ZERO, FILL_TINY, { { 5, 130, 3, EMPTY | 1 } } },
        // the most KV heads, and the most query heads to one of them, that published models have
        { 64, 64, 64, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 1, 70, 0, 0 }, { 3, 9, 0, 0 } } },
        { 128, 64, 1, VLM_KV_F16, FILL_NORMAL, FILL_NORMAL, { { 1, 70, 0, 0 }, { 3, 9, 0, 0 } } },
        { 128, 64, 64, VLM_KV_Q8, FILL_NORMAL, FILL_NORMAL, { { 1, 70, 0, 0 } } },
    };

    if (ck->dev->tall_matrices && (ck->dev->caps & VLM_CAP_COOPMAT))
        tall_cases(ck);
    else if (ck->dev->caps & VLM_CAP_COOPMAT)
        coopmat_cases(ck);
    if (ck->dev->caps)  // no other variants: the first rung has seen it all
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        attention_case(ck, &cases[i], i % 2 ? 6 : 0, 1);
    full_case(ck, 32, 1, 1, 1, 0, FALSE, FILL_NORMAL, 1);
    full_case(ck, 32, 2, 3, 9, 2, FALSE, FILL_OFFSET, 1);
    full_case(ck, 64, 3, 2, 64, 0, FALSE, FILL_NORMAL, 1);
    full_case(ck, 64, 3, 1, 131, 4, FALSE, FILL_LARGE, 1);
    full_case(ck, 72, 2, 2, 20, 0, FALSE, FILL_NORMAL, 1);
    full_case(ck, 80, 1, 1, 17, 2, FALSE, FILL_NORMAL, 1);
    full_case(ck, 32, 1, 1, 1, 0, TRUE, FILL_NORMAL, 1);
    full_case(ck, 64, 2, 3, 9, 2, TRUE, FILL_OFFSET, 1);
    full_case(ck, 64, 8, 2, 77, 0, TRUE, FILL_NORMAL, 1);
    full_case(ck, 32, 1, 1, 131, 4, TRUE, FILL_LARGE, 1);
}

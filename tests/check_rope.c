// SPDX-License-Identifier: LGPL-2.1-or-later
// check_rope.c — rotary positions and the way into the KV cache against their reference.
#include "check.h"
#include "ref_kv.h"
#include "ref_rope.h"

#include <math.h>
#include <string.h>

#include "base/number.h"

#define N_LAYER 3
#define THETA   5e6

// Sine and cosine to 1e-7 (polynomials 3e-8, a turn's fraction in 32 bits, f32 rounding), the head
// norm to 4e-6 as rms_norm, both relative to the larger element of the pair: 1e-6 and 5e-6 of the
// largest element.
static tolerance tolerance_of(const double *want, size_t n, gboolean norm)
{
    double most = 0;

    for (size_t i = 0; i < n; i++)
        most = MAX(most, fabs(want[i]));
    return (tolerance){ .absolute = most * (norm ? 5e-6 : 1e-6) + 1e-30 };
}

// Positions that a table of angles in f32 gets wrong are among these.
static uint32_t position_of(check *ck, uint32_t tok)
{
    static const uint32_t known[] = { 0, 1, 1000003, 0x7fffffff, 0x80000000u };

    return tok < G_N_ELEMENTS(known) ? known[tok] : g_rand_int(ck->rand) >> (tok % 31);
}

// Every element of all pages: what was stored is right, all else is as it was.
static char *compare_pages(const void *pages, const void *before, const vlm_kv_layout *kv,
                           uint32_t n_page, uint32_t layer, const uint32_t *tok_of_slot,
                           const double *want_k, const float *v, size_t v_stride, tolerance tol)
{
    const uint32_t hd = kv->head_dim, size = kv->type == VLM_KV_F32 ? 4 : 2;
    size_t at = 0;

    for (uint32_t page = 0; page < n_page; page++)
        for (uint32_t i = 0; i < 2 * kv->n_layer * kv->n_kv_head * 64 * hd; i++, at += size) {
            const uint32_t d = i % hd, slot = i / hd % 64, head = i / hd / 64 % kv->n_kv_head;
            const uint32_t half = i / hd / 64 / kv->n_kv_head;
            const uint32_t tok = tok_of_slot[page * 64 + slot];
            const char *got = (const char *) pages + at;
            uint16_t h = 0;
            float x;

            if (half / 2 != layer || tok == UINT32_MAX) {
                if (memcmp(got, (const char *) before + at, size) != 0)
                    return g_strdup_printf("page %u layer %u slot %u was written", page, half / 2,
                                           slot);
                continue;
            }
            memcpy(&h, got, 2);
            memcpy(&x, got, size == 4 ? 4 : 0);
            if (half % 2) {
                const float want = v[tok * v_stride + head * hd + d];
                if (size == 4 ? x != want : h != vlm_f32_to_f16(want))
                    return g_strdup_printf("v[%u, %u, %u] is wrong", tok, head, d);
                continue;
            }
            const double want = want_k[((size_t) tok * kv->n_kv_head + head) * hd + d];
            const double value = size == 4 ? x : vlm_f16_to_f32(h);
            const double rounding = size == 4 ? 0 : fabs(want) * 0x1p-11 + 0x1p-25;
            if (!(fabs(value - want) <= tol.absolute + rounding))
                return g_strdup_printf("k[%u, %u, %u] is %.9g, expected %.9g", tok, head, d, value,
                                       want);
        }
    return NULL;
}

// Copies the bytes that `slot` of a quantised head has.
static void copy_slot(uint8_t *to, const uint8_t *from, int bits, uint32_t hd, uint32_t slot)
{
    const uint32_t n_block = (hd + 31) / 32, codes = n_block * 4 * (uint32_t) bits;

    memcpy(to + slot * codes, from + slot * codes, codes);
    for (uint32_t b = 0; b < n_block; b++)
        memcpy(to + 64 * codes + (b * 64 + slot) * 2, from + 64 * codes + (b * 64 + slot) * 2, 2);
}

// The same for quantised pages, where every byte is what the reference makes of the same values:
// those of v, and with `exact` those of the keys. Else an element of a key is wrong by half of a
// step, more at the ends of a range whose scale was rounded: at most 3/4.
static char *compare_quantised(const void *pages, const void *before, const vlm_kv_layout *kv,
                               uint32_t n_page, uint32_t layer, const uint32_t *tok_of_slot,
                               const double *want_k, const float *v, size_t v_stride, tolerance tol,
                               gboolean exact)
{
    const uint32_t hd = kv->head_dim;
    const size_t page_bytes = vlm_kv_page_bytes(kv), head_bytes = vlm_kv_head_bytes(kv);
    const int bits = (int) vlm_kv_bits(kv->type);
    g_autofree uint8_t *want = g_memdup2(before, n_page * page_bytes);
    g_autofree float *key = g_new(float, hd);

    for (uint32_t i = 0; i < n_page * 64 * kv->n_kv_head; i++) {
        const uint32_t head = i % kv->n_kv_head, slot = i / kv->n_kv_head % 64;
        const uint32_t page = i / kv->n_kv_head / 64, tok = tok_of_slot[page * 64 + slot];
        const size_t at =
            page * page_bytes + (size_t) (2 * layer * kv->n_kv_head + head) * head_bytes;
        const uint8_t *got = (const uint8_t *) pages + at;

        if (tok == UINT32_MAX)
            continue;
        for (uint32_t d = 0; d < hd; d++)
            key[d] = (float) want_k[((size_t) tok * kv->n_kv_head + head) * hd + d];
        if (bits == 4)
            ref_kv_transform(key, hd, 0.125f);
        ref_kv_store(want + at, bits, hd, slot, key);
        ref_kv_store(want + at + kv->n_kv_head * head_bytes, bits, hd, slot,
                     v + tok * v_stride + (size_t) head * hd);
        if (exact)
            continue;
        for (uint32_t d = 0; d < hd; d++) {
            const uint32_t codes = 64 * ((hd + 31) / 32) * 4 * (uint32_t) bits;
            uint16_t scale;
            memcpy(&scale, got + codes + (d / 32 * 64 + slot) * 2, 2);
            const double step = vlm_f16_to_f32(bits == 4 ? scale & 0xfff0 : scale);
            const double value = ref_kv_value(got, bits, hd, slot, d);
            if (!(fabs(value - (double) key[d]) <= 0.75 * step + tol.absolute))
                return g_strdup_printf("k[%u, %u, %u] is %.9g, expected %.9g", tok, head, d, value,
                                       (double) key[d]);
        }
        copy_slot(want + at, got, bits, hd, slot);
    }
    for (size_t i = 0; i < n_page * page_bytes; i++)
        if (want[i] != ((const uint8_t *) pages)[i])
            return g_strdup_printf("byte %zu of page %zu is %02x, expected %02x", i % page_bytes,
                                   i / page_bytes, ((const uint8_t *) pages)[i], want[i]);
    return NULL;
}

typedef struct rope_case {
    uint32_t head_dim;
    uint32_t n_head;
    uint32_t n_kv_head;
    uint32_t n_tok;
    uint32_t gap;
    uint32_t norms;  // as vlm_args_rope_append
    vlm_kv_type type;
    check_fill fill;
    uint32_t sections[4];  // none: neighbours form pairs
    gboolean exact;        // all positions are 0, k and v hold values that are hard to quantise
    gboolean in_order;     // sections one after the other, not interleaved; without norms
} rope_case;

// Values at the edges of quantisation: halves of a step, not finite, too large, too small.
static void spoil(float *x, uint32_t n, uint32_t tok)
{
    static const float values[][4] = {
        { 127, 0.5f, -0.5f, 126.5f }, { 7.5f, -7.5f, 0.25f, -0.25f },  { NAN, 1, 2, 3 },
        { INFINITY, -1, 2, 3 },       { 3e38f, -3e38f, 1, 2 },         { 8.3e6f, -8.3e6f, 1e5f, 1 },
        { 1e-42f, -1e-42f, 0, 0 },    { 1e-6f, -4e-6f, 2e-7f, 3e-8f }, { 0, 0, 0, 0 },
        { -5, -4, -3, -1e-3f },
    };
    const float *v = values[tok % G_N_ELEMENTS(values)];

    if (tok % 3 == 0)  // these alone decide
        memset(x, 0, n * sizeof *x);
    for (uint32_t i = 0; i < n; i++)
        if (i % 8 < 4)
            x[i] = v[i % 4];
}

static void ref_head(double *dst, const float *x, const float *weight, float eps,
                     const rope_case *c, const uint32_t *pos)
{
    if (c->in_order)
        ref_rope_mrope(dst, x, c->head_dim, THETA, c->sections, pos);
    else if (c->sections[0])
        ref_rope_imrope(dst, x, weight, (double) eps, c->head_dim, THETA, c->sections, pos);
    else
        ref_rope_adjacent(dst, x, c->head_dim, THETA, pos[0]);
}

static void transform_queries(double *q, const rope_case *c)
{
    g_autofree float *head = g_new(float, c->head_dim);

    for (size_t i = 0; i < (size_t) c->n_tok * c->n_head; i++, q += c->head_dim) {
        for (uint32_t d = 0; d < c->head_dim; d++)
            head[d] = (float) q[d];
        ref_kv_transform(head, c->head_dim, 0.25f);
        for (uint32_t d = 0; d < c->head_dim; d++)
            q[d] = (double) head[d];
    }
}

static void append_case(check *ck, const rope_case *c)
{
    const uint32_t hd = c->head_dim, width = c->n_head * hd, kv_width = c->n_kv_head * hd;
    const uint32_t stride = width + c->gap, kv_stride = kv_width + c->gap;
    const uint32_t layer = 1, n_page = c->n_tok / 40 + 2;
    const vlm_kv_layout kv = { c->type, N_LAYER, c->n_kv_head, hd };
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("append hd %u heads %u/%u tok %u gap %u norms %u %s %s",
                                            hd, c->n_head, c->n_kv_head, c->n_tok, c->gap, c->norms,
                                            check_kv_name[c->type], check_fill_name[c->fill]);
    g_autoptr(check_buf) q = check_buf_new(ck, (size_t) c->n_tok * stride * 4);
    g_autoptr(check_buf) k = check_buf_new(ck, (size_t) c->n_tok * kv_stride * 4);
    g_autoptr(check_buf) v = check_buf_new(ck, (size_t) c->n_tok * kv_stride * 4);
    g_autoptr(check_buf) norm = check_buf_new(ck, (size_t) 2 * hd * 4);
    g_autoptr(check_buf) positions = check_buf_new(ck, (size_t) c->n_tok * 16);
    g_autoptr(check_buf) pairs = check_buf_new(ck, hd / 2 * sizeof(vlm_rope_pair));
    g_autoptr(check_buf) slots = check_buf_new(ck, (size_t) c->n_tok * 8);
    g_autoptr(check_buf) pages = check_buf_new(ck, n_page * vlm_kv_page_bytes(&kv));
    g_autofree void *before = g_memdup2(pages->data, pages->bytes);
    g_autofree double *want = g_new0(double, (size_t) c->n_tok *width);
    g_autofree double *want_k = g_new0(double, (size_t) c->n_tok *kv_width);
    g_autofree uint32_t *tok_of_slot = g_new(uint32_t, n_page * 64);
    check_buf *bufs[] = { q, k, v, norm, positions, pairs, slots, pages };
    const float *weight = norm->data;
    const float eps = 1e-6f;
    gboolean ok;

    check_fill_f32(ck, norm->data, 2 * (size_t) hd, FILL_NORMAL);
    if (c->in_order)
        vlm_rope_pairs_mrope(pairs->data, hd, THETA, c->sections);
    else if (c->sections[0])
        vlm_rope_pairs_imrope(pairs->data, hd,
                              2 * (c->sections[0] + c->sections[1] + c->sections[2]), THETA,
                              c->sections);
    else
        vlm_rope_pairs_adjacent(pairs->data, hd, THETA);
    memset(tok_of_slot, 0xff, n_page * 64 * sizeof *tok_of_slot);
    for (uint32_t t = 0; t < c->n_tok; t++) {
        float *rows[3] = { (float *) q->data + (size_t) t * stride,
                           (float *) k->data + (size_t) t * kv_stride,
                           (float *) v->data + (size_t) t * kv_stride };
        uint32_t *pos = (uint32_t *) positions->data + 4 * t;
        // every slot once, pages in turn, the last first; the token after next is not stored
        const uint32_t page = t % n_page, slot = 63 - t / n_page;

        check_fill_f32(ck, rows[0], width, c->fill);
        check_fill_f32(ck, rows[1], kv_width, c->fill);
        check_fill_f32(ck, rows[2], kv_width, c->fill);
        if (c->exact) {
            spoil(rows[1], kv_width, t);
            spoil(rows[2], kv_width, t + 1);
        }
        for (uint32_t a = 0; a < 3; a++)
            pos[a] = c->exact ? 0 : position_of(ck, t + a);
        ((uint64_t *) slots->data)[t] =
            t == 2 ? 0 : vlm_kv_slot(pages->addr + page * vlm_kv_page_bytes(&kv), slot);
        if (t != 2)
            tok_of_slot[page * 64 + slot] = t;
        for (uint32_t h = 0; h < c->n_head; h++)
            ref_head(want + (size_t) t * width + h * hd, rows[0] + h * hd,
                     c->norms & 1 ? weight : NULL, eps, c, pos);
        for (uint32_t h = 0; h < c->n_kv_head; h++)
            ref_head(want_k + (size_t) t * kv_width + h * hd, rows[1] + h * hd,
                     c->norms & 2 ? weight + hd : NULL, eps, c, pos);
    }
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_rope_append(
             ck->cmd, &(vlm_tensor){ q->addr, c->n_tok, width, stride },
             &(vlm_tensor){ k->addr, c->n_tok, kv_width, kv_stride },
             &(vlm_tensor){ v->addr, c->n_tok, kv_width, kv_stride }, c->norms & 1 ? norm->addr : 0,
             c->norms & 2 ? norm->addr + 4 * (uint64_t) hd : 0, eps, positions->addr, pairs->addr,
             slots->addr, &kv, layer, c->n_head, &error);
    if (!check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        return;
    // The transform adds 32 elements and divides by 4 (queries) or 8 (keys).
    const gboolean transformed = c->type == VLM_KV_Q4;
    tolerance tol = tolerance_of(want, (size_t) c->n_tok * width, c->norms & 1);
    tol.absolute *= transformed ? 8 : 1;
    if (transformed)
        transform_queries(want, c);
    check_verdict(ck, what, compare_f32(q->data, want, c->n_tok, width, stride, tol));
    tol = tolerance_of(want_k, (size_t) c->n_tok * kv_width, (c->norms & 2) != 0);
    tol.absolute *= transformed ? 4 : 1;
    check_verdict(ck, what,
                  vlm_kv_bits(c->type) < 16
                      ? compare_quantised(pages->data, before, &kv, n_page, layer, tok_of_slot,
                                          want_k, v->data, kv_stride, tol, c->exact)
                      : compare_pages(pages->data, before, &kv, n_page, layer, tok_of_slot, want_k,
                                      v->data, kv_stride, tol));
}

static void vision_case(check *ck, uint32_t head_dim, uint32_t n_head, uint32_t n_row, uint32_t gap,
                        check_fill fill)
{
    const uint32_t width = n_head * head_dim, stride = 3 * width + gap;
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("vision hd %u heads %u rows %u gap %u %s", head_dim,
                                            n_head, n_row, gap, check_fill_name[fill]);
    g_autoptr(check_buf) qkv = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) positions = check_buf_new(ck, (size_t) n_row * 16);
    g_autoptr(check_buf) pairs = check_buf_new(ck, head_dim / 2 * sizeof(vlm_rope_pair));
    g_autofree double *want = g_new0(double, (size_t) n_row * 3 * width);
    check_buf *bufs[] = { qkv, positions, pairs };
    gboolean ok;

    vlm_rope_pairs_vision(pairs->data, head_dim);
    for (uint32_t r = 0; r < n_row; r++) {
        float *row = (float *) qkv->data + (size_t) r * stride;
        uint32_t *pos = (uint32_t *) positions->data + 4 * r;

        check_fill_f32(ck, row, 3 * (size_t) width, fill);
        pos[1] = r % 47;
        pos[2] = r * 7 % 1000;
        for (uint32_t h = 0; h < 2 * n_head; h++)
            ref_rope_vision(want + (size_t) r * 3 * width + h * head_dim, row + h * head_dim,
                            head_dim, pos[1], pos[2]);
        for (uint32_t i = 2 * width; i < 3 * width; i++)
            want[(size_t) r * 3 * width + i] = row[i];
    }
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_rope_vision(ck->cmd, &(vlm_tensor){ qkv->addr, n_row, 3 * width, stride },
                               positions->addr, pairs->addr, n_head, head_dim, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what,
                      compare_f32(qkv->data, want, n_row, 3 * width, stride,
                                  tolerance_of(want, (size_t) n_row * 3 * width, FALSE)));
}

void check_rope(check *ck)
{
    // head sizes around a subgroup's pairs and of real models, sections of Qwen3-VL and Qwen2-VL
    // and, of heads that rotate in part, of Qwen3.5
    static const rope_case cases[] = {
        { 2, 1, 1, 1, 0, 0, VLM_KV_F16, FILL_NORMAL, { 1, 0, 0, 0 }, FALSE, FALSE },
        { 14, 2, 1, 5, 3, 3, VLM_KV_F32, FILL_NORMAL, { 3, 2, 2, 0 }, FALSE, FALSE },
        { 18, 2, 1, 5, 0, 2, VLM_KV_F16, FILL_OFFSET, { 3, 3, 3, 0 }, FALSE, FALSE },
        { 64, 4, 2, 70, 2, 3, VLM_KV_F16, FILL_NORMAL, { 12, 10, 10, 0 }, FALSE, FALSE },
        { 64, 3, 3, 6, 0, 1, VLM_KV_F32, FILL_TINY, { 12, 10, 10, 0 }, FALSE, FALSE },
        { 128, 8, 2, 45, 0, 3, VLM_KV_F16, FILL_NORMAL, { 24, 20, 20, 0 }, FALSE, FALSE },
        { 128, 8, 2, 9, 0, 0, VLM_KV_F32, FILL_LARGE, { 24, 20, 20, 0 }, FALSE, FALSE },
        { 256, 2, 1, 9, 1, 3, VLM_KV_F16, FILL_ONE_HOT, { 44, 42, 42, 0 }, FALSE, FALSE },
        { 256, 8, 2, 9, 0, 3, VLM_KV_F32, FILL_NORMAL, { 11, 11, 10, 0 }, FALSE, FALSE },
        { 256, 4, 1, 5, 2, 3, VLM_KV_F16, FILL_OFFSET, { 11, 11, 10, 0 }, FALSE, FALSE },
        { 18, 2, 1, 5, 0, 2, VLM_KV_F16, FILL_NORMAL, { 1, 1, 0, 0 }, FALSE, FALSE },
        { 80, 2, 1, 9, 1, 3, VLM_KV_F16, FILL_ZERO, { 16, 12, 12, 0 }, FALSE, FALSE },
        { 2, 1, 1, 3, 0, 0, VLM_KV_F32, FILL_NORMAL, { 0 }, FALSE, FALSE },
        { 64, 9, 3, 45, 0, 0, VLM_KV_F16, FILL_NORMAL, { 0 }, FALSE, FALSE },
        { 64, 15, 5, 9, 2, 0, VLM_KV_F32, FILL_OFFSET, { 0 }, FALSE, FALSE },
        { 128, 4, 4, 70, 0, 0, VLM_KV_F32, FILL_LARGE, { 0 }, FALSE, FALSE },
        { 64, 4, 2, 70, 2, 3, VLM_KV_Q8, FILL_NORMAL, { 12, 10, 10, 0 }, FALSE, FALSE },
        { 128, 8, 2, 45, 0, 3, VLM_KV_Q8, FILL_OFFSET, { 24, 20, 20, 0 }, FALSE, FALSE },
        { 32, 6, 2, 11, 1, 2, VLM_KV_Q8, FILL_NORMAL, { 6, 5, 5, 0 }, FALSE, FALSE },
        { 256, 2, 1, 9, 1, 3, VLM_KV_Q8, FILL_ONE_HOT, { 44, 42, 42, 0 }, FALSE, FALSE },
        { 80, 2, 1, 9, 1, 1, VLM_KV_Q8, FILL_TINY, { 16, 12, 12, 0 }, TRUE, FALSE },
        { 72, 2, 1, 9, 1, 0, VLM_KV_Q8, FILL_LARGE, { 0 }, TRUE, FALSE },
        { 2, 1, 1, 5, 0, 0, VLM_KV_Q8, FILL_NORMAL, { 0 }, FALSE, FALSE },
        { 64, 3, 3, 70, 0, 0, VLM_KV_Q8, FILL_NORMAL, { 0 }, TRUE, FALSE },
        { 72, 2, 1, 45, 2, 1, VLM_KV_Q8, FILL_NORMAL, { 12, 12, 12, 0 }, TRUE, FALSE },
        { 128, 2, 2, 70, 0, 0, VLM_KV_Q8, FILL_LARGE, { 24, 20, 20, 0 }, TRUE, FALSE },
        { 64, 4, 2, 70, 2, 3, VLM_KV_Q4, FILL_NORMAL, { 12, 10, 10, 0 }, FALSE, FALSE },
        { 128, 8, 2, 45, 0, 3, VLM_KV_Q4, FILL_OFFSET, { 24, 20, 20, 0 }, FALSE, FALSE },
        { 32, 6, 2, 11, 1, 2, VLM_KV_Q4, FILL_NORMAL, { 6, 5, 5, 0 }, FALSE, FALSE },
        { 256, 2, 1, 9, 1, 3, VLM_KV_Q4, FILL_ONE_HOT, { 44, 42, 42, 0 }, FALSE, FALSE },
        { 80, 2, 1, 9, 1, 1, VLM_KV_Q4, FILL_TINY, { 16, 12, 12, 0 }, TRUE, FALSE },
        { 72, 2, 1, 9, 1, 0, VLM_KV_Q4, FILL_LARGE, { 0 }, TRUE, FALSE },
        { 2, 1, 1, 5, 0, 0, VLM_KV_Q4, FILL_NORMAL, { 0 }, FALSE, FALSE },
        { 64, 3, 3, 70, 0, 0, VLM_KV_Q4, FILL_NORMAL, { 0 }, TRUE, FALSE },
        { 72, 2, 1, 45, 2, 1, VLM_KV_Q4, FILL_NORMAL, { 12, 12, 12, 0 }, TRUE, FALSE },
        { 128, 2, 2, 70, 0, 0, VLM_KV_Q4, FILL_LARGE, { 24, 20, 20, 0 }, TRUE, FALSE },
        { 256, 8, 2, 9, 0, 3, VLM_KV_Q8, FILL_NORMAL, { 11, 11, 10, 0 }, FALSE, FALSE },
        { 256, 8, 2, 9, 0, 3, VLM_KV_Q4, FILL_NORMAL, { 11, 11, 10, 0 }, FALSE, FALSE },
        { 32, 4, 2, 9, 1, 0, VLM_KV_F32, FILL_NORMAL, { 4, 6, 6, 0 }, FALSE, TRUE },
        { 128, 12, 2, 45, 0, 0, VLM_KV_F16, FILL_NORMAL, { 16, 24, 24, 0 }, FALSE, TRUE },
    };

    if (ck->dev->caps)  // no variants: the first rung has seen it all
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        append_case(ck, &cases[i]);
    vision_case(ck, 4, 1, 1, 0, FILL_NORMAL);
    vision_case(ck, 32, 4, 9, 3, FILL_OFFSET);
    vision_case(ck, 64, 12, 50, 0, FILL_NORMAL);
    vision_case(ck, 72, 16, 20, 0, FILL_LARGE);
    vision_case(ck, 80, 2, 5, 2, FILL_ONE);
}

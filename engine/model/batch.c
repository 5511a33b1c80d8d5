// SPDX-License-Identifier: LGPL-2.1-or-later
// model/batch.c — see model/batch.h.
#define G_LOG_DOMAIN "vlm-model"
#include "model/batch.h"

#include <string.h>

vlm_batch *vlm_batch_new(uint32_t max_tok, uint32_t max_seq)
{
    vlm_batch *batch = g_new0(vlm_batch, 1);

    batch->max_tok = max_tok;
    batch->max_seq = max_seq;
    batch->max_visual = max_tok;
    batch->max_out = max_seq;
    batch->ids = g_new(uint32_t, max_tok);
    batch->positions = g_malloc_n(max_tok, sizeof *batch->positions);
    batch->slots = g_new(uint64_t, max_tok);
    batch->seqs = g_new(vlm_kv_sequence, max_seq);
    batch->caches = g_new(const vlm_kv_seq *, max_seq);
    batch->visual = g_new(vlm_visual_rows, batch->max_visual);
    batch->out_rows = g_new(uint32_t, batch->max_out);
    batch->cross = g_new(vlm_cross_rows, max_seq);
    batch->cross_seqs = g_new(vlm_kv_sequence, max_seq);
    batch->cross_slots = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    return batch;
}

void vlm_batch_free(vlm_batch *batch)
{
    if (!batch)
        return;
    g_free(batch->ids);
    g_free(batch->positions);
    g_free(batch->slots);
    g_free(batch->seqs);
    g_free(batch->caches);
    g_free(batch->visual);
    g_free(batch->out_rows);
    g_free(batch->cross);
    g_free(batch->cross_seqs);
    g_array_unref(batch->cross_slots);
    g_free(batch);
}

void vlm_batch_clear(vlm_batch *batch)
{
    batch->chosen = 0;
    batch->n_tok = batch->n_seq = batch->n_visual = batch->n_out = batch->n_cross = 0;
    g_array_set_size(batch->cross_slots, 0);
}

// Where each sequence's recurrent state is and which rows change it.
static gboolean upload_states(const vlm_batch *batch, vlm_cmd *cmd, vlm_batch_tables *tables,
                              GError **error)
{
    void *host = NULL;

    tables->states = 0;
    if (batch->n_seq == 0 || vlm_kv_seq_state(batch->caches[0]) == 0)
        return TRUE;
    if (!vlm_cmd_table_alloc(cmd, batch->n_seq * sizeof(vlm_state_rows), &host, &tables->states,
                             error))
        return FALSE;
    for (uint32_t i = 0; i < batch->n_seq; i++)
        ((vlm_state_rows *) host)[i] =
            (vlm_state_rows){ .state = vlm_kv_seq_state(batch->caches[i]),
                              .tok0 = batch->seqs[i].tok0,
                              .n_tok = batch->seqs[i].n_tok };
    return TRUE;
}

// Which pages each sequence's rows look at beside it. Their order doesn't matter, so all rows may
// see up to the last slot; what lies behind it in the last page is cut off.
static gboolean upload_cross(vlm_batch *batch, vlm_cmd *cmd, vlm_batch_tables *tables,
                             GError **error)
{
    tables->cross = NULL;
    for (uint32_t i = 0; i < batch->n_seq; i++) {
        const vlm_kv_seq *cross = vlm_kv_seq_cross(batch->caches[i]);
        vlm_kv_sequence *seq = &batch->cross_seqs[i];
        const uint32_t n = cross ? vlm_kv_seq_n_slots(cross) : 0;
        uint32_t n_page = 0;
        void *host = NULL;

        *seq = (vlm_kv_sequence){ .tok0 = batch->seqs[i].tok0,
                                  .n_tok = batch->seqs[i].n_tok,
                                  .slot0 = n };
        if (n == 0)
            continue;
        const vlm_kv_page *pages = vlm_kv_seq_pages(cross, &n_page);
        n_page = MIN(n_page, (n + VLM_PAGE_TOKENS - 1) / VLM_PAGE_TOKENS);
        if (!vlm_cmd_table_alloc(cmd, n_page * sizeof *pages, &host, &seq->pages, error))
            return FALSE;
        memcpy(host, pages, n_page * sizeof *pages);
        vlm_kv_page *last = (vlm_kv_page *) host + n_page - 1;
        last->end = MIN(last->end, n - (n_page - 1) * VLM_PAGE_TOKENS);
        seq->n_page = n_page;
        tables->cross = batch->cross_seqs;
    }
    return TRUE;
}

gboolean vlm_batch_upload(vlm_batch *batch, vlm_cmd *cmd, vlm_batch_tables *tables, GError **error)
{
    for (uint32_t i = 0; i < batch->n_seq; i++) {
        uint32_t n_page = 0;
        const vlm_kv_page *pages = vlm_kv_seq_pages(batch->caches[i], &n_page);
        batch->seqs[i].n_page = n_page;
        if (!vlm_cmd_table(cmd, pages, n_page * sizeof *pages, &batch->seqs[i].pages, error))
            return FALSE;
    }
    tables->seqs = batch->seqs;
    tables->out_rows = 0;
    tables->ids = batch->chosen;
    return upload_states(batch, cmd, tables, error) && upload_cross(batch, cmd, tables, error)
           && (tables->ids != 0
               || vlm_cmd_table(cmd, batch->ids, batch->n_tok * sizeof *batch->ids, &tables->ids,
                                error))
           && vlm_cmd_table(cmd, batch->positions, batch->n_tok * sizeof *batch->positions,
                            &tables->positions, error)
           && vlm_cmd_table(cmd, batch->slots, batch->n_tok * sizeof *batch->slots, &tables->slots,
                            error)
           && (batch->n_out == 0
               || vlm_cmd_table(cmd, batch->out_rows, batch->n_out * sizeof *batch->out_rows,
                                &tables->out_rows, error));
}

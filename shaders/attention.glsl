// SPDX-License-Identifier: LGPL-2.1-or-later
// attention.glsl — the table of sequences that attention kernels share.

// 40 bytes: u64 pages, then u32 tok0, n_row, slot0, n_page, item0, n_split, split_pages, part0.
// n_row counts the rows that one KV head serves: tokens * query heads per KV head.

struct Seq {
    uvec2 pages;
    uint tok0;
    uint n_row;
    uint slot0;
    uint n_page;
    uint item0;        // first work item
    uint n_split;      // runs of pages that rows are split into
    uint split_pages;  // pages of a run
    uint part0;        // first partial result
};

Seq load_seq(InU64 seqs, uint i)
{
    const uvec2 a = unpackUint2x32(seqs.v[5 * i]);
    const uvec2 b = unpackUint2x32(seqs.v[5 * i + 1]);
    const uvec2 c = unpackUint2x32(seqs.v[5 * i + 2]);
    const uvec2 d = unpackUint2x32(seqs.v[5 * i + 3]);
    const uvec2 e = unpackUint2x32(seqs.v[5 * i + 4]);
    return Seq(a, b.x, b.y, c.x, c.y, d.x, d.y, e.x, e.y);
}

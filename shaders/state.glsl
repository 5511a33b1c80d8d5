// SPDX-License-Identifier: LGPL-2.1-or-later
// state.glsl — the table of sequences that kernels with a recurrent state share (vlm_state_rows in
// engine/ops/delta_net.h).

struct StateRows {
    uvec2 state;  // where this layer's state starts
    uint tok0;
    uint n_tok;
};

// 16 bytes: u64 state, then u32 tok0, n_tok. `offset` bytes further on is the layer's state.
StateRows load_state_rows(InU64 seqs, uint i, uvec2 offset)
{
    const uvec2 rows = unpackUint2x32(seqs.v[2 * i + 1]);
    return StateRows(unpackUint2x32(seqs.v[2 * i] + packUint2x32(offset)), rows.x, rows.y);
}

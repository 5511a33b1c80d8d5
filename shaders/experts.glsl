// SPDX-License-Identifier: LGPL-2.1-or-later
// experts.glsl — where the matrix of an expert begins.

// Bytes from the address of the weight to the matrix of `expert`: experts follow one another, or,
// with mat_bytes 0, lie where `table`, u64 [expert], says. CPU drivers may read the table even when
// it isn't asked: it is then some memory of that size.
uint64_t expert_at(uvec2 table, uvec2 mat_bytes, uint expert)
{
    uint64_t at = packUint2x32(mat_bytes) * uint64_t(expert);
    if (all(equal(mat_bytes, uvec2(0))))
        at = InU64(table).v[expert];
    return at;
}

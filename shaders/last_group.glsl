// SPDX-License-Identifier: LGPL-2.1-or-later
// last_group.glsl — what the workgroup that finishes a tile of rows last does with the whole rows.
//
// Every workgroup stores its part of a tile's rows and counts itself (is_last.glsl); the last one
// goes on with the whole rows, so that what follows a product needs no dispatch of its own.
//
//   THEN_NORM   dst[t, c] = src[t, c] / sqrt(mean(src[t, :]^2) + eps) * weight[c]
//   THEN_ROUTE  ids and gates of the experts, as route.glsl
//
// Includer: has THEN (a specialization constant). With WIDE defined, workgroups have N_GROUP
//           subgroups of LANES, and `sums`, shared floats [at least N_GROUP]; else one subgroup.
#include "is_last.glsl"
#include "route.glsl"

#define THEN_NOTHING 0u
#define THEN_NORM    1u
#define THEN_ROUTE   2u

layout(buffer_reference, std430, buffer_reference_align = 16) coherent buffer CoherentVec4
{
    vec4 v[];
};
layout(buffer_reference, std430, buffer_reference_align = 16) writeonly buffer OutVec4
{
    vec4 v[];
};
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer WeightVec4
{
    vec4 v[];
};
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer ThenRef
{
    vlm_args_then a;
};

#ifdef WIDE
#define THREADS (N_GROUP * LANES)
#else
#define THREADS LANES
#endif

// Stores one element of the product where the last workgroup will see it.
void store_sum(uvec2 dst, uint at, float y)
{
    if (THEN == THEN_NOTHING)
        OutF32(dst).v[at] = y;
    else
        Coherent(dst).v[at] = y;
}

// Of all threads, in all of them.
float sum_threads(float x)
{
    float sum = subgroupAdd(x);
#ifdef WIDE
    barrier();  // `sums` may still be read
    if (gl_LocalInvocationID.x % LANES == 0)
        sums[gl_LocalInvocationID.x / LANES] = sum;
    barrier();
    sum = 0.0;
    [[unroll]] for (uint g = 0; g < N_GROUP; g++)
        sum += sums[g];
#endif
    return sum;
}

void norm_row(vlm_args_then p, uint tok)
{
    CoherentVec4 src = CoherentVec4(packUint2x32(p.src) + uint64_t(tok * p.src_stride) * 4ul);
    OutVec4 dst = OutVec4(packUint2x32(p.dst) + uint64_t(tok * p.dst_stride) * 4ul);
    WeightVec4 weight = WeightVec4(p.weight);

    float sum = 0.0;
    uint c = gl_LocalInvocationID.x;
    while (c < p.n_col / 4u) {
        const vec4 x = src.v[c];
        sum += dot(x, x);
        c += THREADS;
    }
    const float scale = inversesqrt(sum_threads(sum) / float(p.n_col) + p.eps);
    c = gl_LocalInvocationID.x;
    while (c < p.n_col / 4u) {
        dst.v[c] = src.v[c] * scale * weight.v[c];
        c += THREADS;
    }
}

// To be called by all invocations, after store_sum(): rows tok0 ... tok0 + n_tok - 1, of which each
// of `n_group` workgroups has a part, are number `tile` among those of the dispatch.
void then(uvec2 args, uint tile, uint n_group, uint tok0, uint n_tok)
{
    if (THEN == THEN_NOTHING)
        return;
    const vlm_args_then p = ThenRef(args).a;
    if (!is_last(p.counters, tile, n_group))
        return;
    uint t = 0;
    do {
        if (THEN == THEN_NORM)
            norm_row(p, tok0 + t);
        else if (gl_LocalInvocationID.x < LANES)
            route(Coherent(p.src), p.src_stride, p.n_col, p.k, OutU32(p.dst), F32(p.weight),
                  tok0 + t, gl_LocalInvocationID.x);
        t++;
    } while (t < n_tok);
}

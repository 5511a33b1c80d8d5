// SPDX-License-Identifier: LGPL-2.1-or-later
// is_last.glsl — which of the workgroups that share a piece of work finishes its part last.
//
// Nobody waits for anybody: no progress between workgroups is assumed. Which workgroup is the last
// changes from run to run; what it computes of all parts must not. Counters are left at zero.
//
// Includer: with WIDE defined, workgroups have several subgroups; else one.

layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Counters
{
    uint v[];
};

#ifdef WIDE
shared uint others;  // that were done before
#endif

// To be called by all invocations, after they stored their part in `coherent` memory: TRUE in those
// of the last of `n_group` workgroups to come here for `tile`, which sees all parts.
bool is_last(uvec2 counters, uint tile, uint n_group)
{
    const uint thread = gl_LocalInvocationID.x;
    memoryBarrierBuffer();
#ifdef WIDE
    barrier();
    if (thread == 0)
        others = atomicAdd(Counters(counters).v[tile], 1u);
    barrier();
    const bool last = others == n_group - 1u;
#else
    subgroupBarrier();
    uint before = 0;
    if (thread == 0)
        before = atomicAdd(Counters(counters).v[tile], 1u);
    const bool last = from_lane(before, 0) == n_group - 1u;
#endif
    if (last) {
        memoryBarrierBuffer();
        if (thread == 0)
            Counters(counters).v[tile] = 0u;
    }
    return last;
}

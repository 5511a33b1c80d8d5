// SPDX-License-Identifier: LGPL-2.1-or-later
// moe_route.comp — ids[t] = the k largest logits[t], gate[t] = their softmax among themselves
//
// Workgroup: one subgroup per token, see route.glsl.
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "route.glsl"

VLM_ARGS(vlm_args_moe_route);

void main()
{
    const vlm_args_moe_route p = VLM_LOAD_ARGS;

    route(Coherent(p.logits), p.stride, p.n_expert, p.k, OutU32(p.ids), F32(p.gate),
          gl_WorkGroupID.x, gl_LocalInvocationID.x);
}

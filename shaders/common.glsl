// SPDX-License-Identifier: LGPL-2.1-or-later
// common.glsl — what every kernel starts with: address types, local size, arguments.
//
// Specialization ids: 0, 1, 2 are the local size in every kernel; a kernel's own constants start
// at 3. The subgroup size is gl_SubgroupSize and never a number (8 on lavapipe, 32, 64). Write
// loops over memory as do { } while: CPU drivers run one more pass of a for loop with all lanes
// off. Give a value to all lanes by subgroupShuffle() with a constant lane: one instruction
// everywhere, while Mesa 22.3's lavapipe makes a loop over the lanes of subgroupBroadcast().
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference2 : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "args.h"

layout(local_size_x_id = 0, local_size_y_id = 1, local_size_z_id = 2) in;

layout(buffer_reference, std430, buffer_reference_align = 4) readonly  buffer InF32  { float v[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer OutF32 { float v[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer F32 { float v[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly  buffer InI32  { int v[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer OutI32 { int v[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly  buffer InU32  { uint v[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer OutU32 { uint v[]; };
layout(buffer_reference, std430, buffer_reference_align = 8)
readonly buffer InU64 { uint64_t v[]; };

// `x` of lane `i`, where `i` is a constant after unrolling. A shuffle, not a broadcast: for a
// broadcast Mesa 22.3's CPU driver looks for the first active lane each time, which makes kernels
// six times slower to run and to compile; elsewhere the two cost the same.
#define from_lane(x, i) subgroupShuffle(x, i)

// VLM_ARGS(struct name) declares the push constant and, in main(), `p = VLM_LOAD_ARGS` reads the
// arguments once.
#define VLM_ARGS(type)                                                                       \
    layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer ArgsRef    \
    {                                                                                        \
        type a;                                                                              \
    };                                                                                       \
    layout(push_constant, std430) uniform Push { uvec2 args_addr; }
#define VLM_LOAD_ARGS ArgsRef(args_addr).a

// Enough for 1024 invocations in subgroups of 4, the smallest size known devices report.
#define VLM_MAX_LOCAL     1024
#define VLM_MAX_SUBGROUPS 256

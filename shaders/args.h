// SPDX-License-Identifier: LGPL-2.1-or-later
// shaders/args.h — arguments of every kernel, read by C and by GLSL.
//
// The one contract between host and device. A kernel gets one push constant, the address of its
// argument struct in a mapped ring. Rules that make both compilers agree on the layout:
//   - device addresses first, then 4-byte scalars, an even number of them;
//   - no vectors, matrices, arrays, bool or nested structs.
// C checks them below each struct; the registry test compares the size with the struct found in
// the SPIR-V, so stale code can't slip through.
#ifndef VLM_SHADERS_ARGS_H
#define VLM_SHADERS_ARGS_H

#ifdef VULKAN                       // GLSL
#define vlm_addr uvec2              // turned into a buffer_reference by its constructor
#define vlm_u32 uint
#define vlm_i32 int
#define vlm_f32 float
#define VLM_ARGS_CHECK(name, n_addr, n_scalar)
#else                               // C
#include <stdint.h>
typedef uint64_t vlm_addr;
typedef uint32_t vlm_u32;
typedef int32_t vlm_i32;
typedef float vlm_f32;
#define VLM_ARGS_CHECK(name, n_addr, n_scalar)                                       \
    _Static_assert(sizeof(struct name) == 8 * (n_addr) + 4 * (n_scalar), "padding"); \
    _Static_assert((n_scalar) % 2 == 0, "odd number of scalars");
#endif

struct vlm_args_rms_norm {
    vlm_addr dst;         // f32 [row, col]
    vlm_addr src;         // f32 [row, col]
    vlm_addr weight;      // f32 [col]
    vlm_u32  n_col;       // elements per row
    vlm_u32  dst_stride;  // elements between rows
    vlm_u32  src_stride;  // elements between rows
    vlm_f32  eps;         // added to the mean square
};
VLM_ARGS_CHECK(vlm_args_rms_norm, 3, 4)

#endif

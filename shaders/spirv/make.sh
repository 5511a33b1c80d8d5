#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# spirv/make.sh — makes the modules of this folder again, where glslang is new enough
#
#   shaders/spirv/make.sh          writes NAME.spv and `sources`
#   shaders/spirv/make.sh --check  compares the sources with those the modules were made from
#
# Wants glslang 15 or newer; GLSLANG names another program. The build takes these modules where its
# own compiler can't make them, see shaders/meson.build.
set -eu
cd "$(dirname "$0")/.."
sources="matmul_coopmat.comp common.glsl weights.glsl act.glsl"

if [ "${1-}" = --check ]; then
    # args.h is not among them: the registry compares its structs with those of each module
    sha256sum --quiet -c spirv/sources && exit
    echo "run shaders/spirv/make.sh: sources have changed since" >&2
    exit 1
fi
glslang=${GLSLANG:-glslang}
for type in f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4; do
    weight=-DWEIGHT=W_$(echo $type | tr a-z A-Z)
    for kind in '' moe_; do
        name=${kind}matmul_coopmat_$type
        $glslang --quiet -V --target-env vulkan1.2 -I. "$weight" ${kind:+-DMOE} \
            -o spirv/$name.spv matmul_coopmat.comp
    done
done
sha256sum $sources > spirv/sources

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
sources="attention_coopmat.comp attention_coopmat1.glsl attention_coopmat2.glsl attention.glsl
attention_block.glsl matmul_coopmat.comp common.glsl weights.glsl experts.glsl act.glsl"

if [ "${1-}" = --check ]; then
    # args.h is not among them: the registry compares its structs with those of each module
    sha256sum --quiet -c spirv/sources && exit
    echo "run shaders/spirv/make.sh: sources have changed since" >&2
    exit 1
fi
glslang=${GLSLANG:-glslang}

# compile NAME SOURCE DEFINE...
compile()
{
    name=$1 source=$2 target=vulkan1.2
    shift 2
    case $name in *coopmat2*) target=vulkan1.3 ;; esac  # which wants SPIR-V 1.6
    $glslang --quiet -V --target-env $target -I. "$@" -o "spirv/$name.spv" "$source"
}

compile attention_coopmat attention_coopmat.comp
compile attention_coopmat_q8 attention_coopmat.comp -DKV_BITS=8
compile attention_coopmat_q4 attention_coopmat.comp -DKV_BITS=4
compile attention_full_coopmat attention_coopmat.comp -DFULL
compile attention_coopmat2 attention_coopmat.comp -DCOOPMAT2
compile attention_coopmat2_q8 attention_coopmat.comp -DCOOPMAT2 -DKV_BITS=8
compile attention_coopmat2_q4 attention_coopmat.comp -DCOOPMAT2 -DKV_BITS=4
compile attention_full_coopmat2 attention_coopmat.comp -DCOOPMAT2 -DFULL
for type in f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4; do
    weight=-DWEIGHT=W_$(echo $type | tr a-z A-Z)
    compile matmul_coopmat_$type matmul_coopmat.comp "$weight"
    compile moe_matmul_coopmat_$type matmul_coopmat.comp "$weight" -DMOE
    compile matmul_coopmat2_$type matmul_coopmat.comp "$weight" -DCOOPMAT2
    compile moe_matmul_coopmat2_$type matmul_coopmat.comp "$weight" -DCOOPMAT2 -DMOE
done
sha256sum $sources > spirv/sources

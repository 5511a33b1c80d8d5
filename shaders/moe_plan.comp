// SPDX-License-Identifier: LGPL-2.1-or-later
// moe_plan.comp — slots sorted by expert and cut into tiles.
//
// A stable counting sort over chunks of slots. Steps, each needs the one before to be finished for
// all chunks; with one chunk one workgroup does all of them in a row:
//   COUNT    counts[c, e] = slots of chunk c that expert e serves
//   SCAN     counts[c, e] = place of the first of them; the tile list
//   PERMUTE  slots[place] = slot, ascending within an expert
//
// Workgroup: one subgroup; x is the chunk (COUNT, PERMUTE) or alone (SCAN).
// Shared:    none; lanes see each other's writes after subgroupMemoryBarrierBuffer().
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 3) const uint LANES = 8;  // the local size

#define MOE_PLAN_COUNT   1u
#define MOE_PLAN_SCAN    2u
#define MOE_PLAN_PERMUTE 4u

layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Shared { uint v[]; };

VLM_ARGS(vlm_args_moe_plan);

void sync()
{
    subgroupMemoryBarrierBuffer();
    subgroupBarrier();
}

// Walks over the slots of a chunk, LANES at a time: gives each slot the next place of its expert
// and, when `store`, writes it there. counts[base + e] moves on by the number of e's slots.
void walk(vlm_args_moe_plan p, uint chunk, uint lane, bool store)
{
    Shared counts = Shared(p.counts);
    OutU32 slots = OutU32(p.slots);
    const uint base = chunk * p.n_expert;
    const uint end = min((chunk + 1u) * p.chunk_slots, p.n_slot);

    uint first = chunk * p.chunk_slots;
    do {
        const uint slot = first + lane;
        const bool valid = slot < end;
        const uint id = valid ? min(InU32(p.ids).v[slot], p.n_expert - 1u) : ~0u;
        uint before = 0u, all = 0u;
        [[unroll]] for (uint l = 0; l < LANES; l++) {
            const bool same = subgroupShuffle(id, l) == id;
            before += uint(same && l < lane);
            all += uint(same);
        }
        uint place = 0u;
        if (valid)
            place = counts.v[base + id] + before;
        sync();
        if (valid && store)
            slots.v[place] = slot;
        if (valid && before + 1u == all)
            counts.v[base + id] = place + 1u;
        sync();
        first += LANES;
    } while (first < end);
}

void scan(vlm_args_moe_plan p, uint lane)
{
    Shared counts = Shared(p.counts);
    OutU32 tiles = OutU32(p.tiles);
    uint slots_before = 0u, tiles_before = 0u;  // of experts below the current run

    uint e0 = 0;
    do {
        const uint e = e0 + lane;
        const bool valid = e < p.n_expert;
        uint total = 0u;
        uint c = 0;
        do {
            if (valid)
                total += counts.v[c * p.n_expert + e];
            c++;
        } while (c < p.n_chunk);

        const uint n_tile = (total + p.tile_slots - 1u) / p.tile_slots;
        uint place = slots_before + subgroupExclusiveAdd(total);
        uint tile = tiles_before + subgroupExclusiveAdd(n_tile);
        slots_before += subgroupAdd(total);
        tiles_before += subgroupAdd(n_tile);

        uint done = 0u;
        while (done < total) {
            tiles.v[4u * tile] = e;
            tiles.v[4u * tile + 1u] = place + done;
            tiles.v[4u * tile + 2u] = min(total - done, p.tile_slots);
            tiles.v[4u * tile + 3u] = 0u;
            tile++;
            done += p.tile_slots;
        }
        c = 0;
        do {
            if (valid) {
                const uint n = counts.v[c * p.n_expert + e];
                counts.v[c * p.n_expert + e] = place;
                place += n;
            }
            c++;
        } while (c < p.n_chunk);
        e0 += LANES;
    } while (e0 < p.n_expert);

    if (lane == 0)
        OutU32(p.n_tile).v[0] = tiles_before;
    sync();
}

void main()
{
    const vlm_args_moe_plan p = VLM_LOAD_ARGS;
    const uint lane = gl_LocalInvocationID.x;
    const uint chunk = gl_WorkGroupID.x;

    if ((p.steps & MOE_PLAN_COUNT) != 0u) {
        uint e = lane;
        while (e < p.n_expert) {
            Shared(p.counts).v[chunk * p.n_expert + e] = 0u;
            e += LANES;
        }
        sync();
        walk(p, chunk, lane, false);
    }
    if ((p.steps & MOE_PLAN_SCAN) != 0u)
        scan(p, lane);
    if ((p.steps & MOE_PLAN_PERMUTE) != 0u)
        walk(p, chunk, lane, true);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
// attention_coopmat1.glsl — softmax of attention_coopmat.comp with VK_KHR_cooperative_matrix alone.
//
// Only loads and stores know where a matrix's elements are, so scores go through shared memory to
// the lanes (PER_ROW for each row) and weights come back that way.
// The exponents' reference moves only when a row's maximum has outgrown it by SLACK (as in
// FlashAttention-4), because scaling the matrices of sums takes a matrix of factors.

const uint SCORE_STRIDE = COLS + 4u, WEIGHT_STRIDE = COLS / 4u + 2u;
const uint NS = COLS / N, KS = COLS / K;
const uint PER_ROW = LANES / M;   // lanes of a row
const uint SPAN = COLS / PER_ROW;  // slots of a lane
const float SLACK = 8.0;

shared float score_shared[ROWS * SCORE_STRIDE];
shared f16vec4 weight_shared[ROWS * WEIGHT_STRIDE];

float base;    // what the exponents of this lane's row are relative to
float weight;  // this lane's part of the row's sum

void begin()
{
    base = LOWEST;
    weight = 0.0;
}

void sync_subgroup()
{
    subgroupMemoryBarrierShared();
    subgroupBarrier();
}

// Adds slots lo ... hi - 1, at most COLS, of a run whose keys start at `k` and values at `v`,
// `stride` bytes apart. The item's row r sees those below see + r / group.
void attend(uvec2 k, uvec2 v, uint stride, uint lo, uint hi, int see)
{
    const uint lane = gl_SubgroupInvocationID, top = gl_SubgroupID * M;
    const uint row = lane / PER_ROW, first = lane % PER_ROW * SPAN;
    const uint at = (top + row) * SCORE_STRIDE + first;
    const int end_seen = see + int(row_of(row) / group);

    fetch(k, v, stride, lo, hi);
    EACH(n, NS) {
        coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> s =
            coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
        EACH(d, DS) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> key;
            coopMatLoad(key, tile_shared, n * N * STRIDE + d * K / 4u, STRIDE,
                        gl_CooperativeMatrixLayoutColumnMajor);
            s = coopMatMulAdd(q[d], key, s);
        }
        coopMatStore(s, score_shared, top * SCORE_STRIDE + n * N, SCORE_STRIDE,
                     gl_CooperativeMatrixLayoutRowMajor);
    }
    sync_subgroup();

    float score[SPAN];
    float best = LOWEST;
    EACH(c, SPAN) {
        const uint slot = lo + first + c;
        score[c] = slot < hi && int(slot) < end_seen ? score_shared[at + c] : LOWEST;
        best = max(best, score[c]);
    }
    [[unroll]] for (uint mask = 1u; mask < PER_ROW; mask *= 2u)
        best = max(best, subgroupShuffleXor(best, mask));
    float keep = 1.0;
    if (best > base + SLACK) {
        keep = exp2(base - best);  // 0 at the first slot seen
        weight *= keep;
        base = best;
    }
    EACH(c, SPAN / 4u) {
        vec4 w;
        EACH(e, 4u) w[e] = score[4u * c + e] > LOWEST ? exp2(score[4u * c + e] - base) : 0.0;
        const f16vec4 rounded = f16vec4(w);
        weight += float(rounded.x) + float(rounded.y) + float(rounded.z) + float(rounded.w);
        weight_shared[(top + row) * WEIGHT_STRIDE + first / 4u + c] = rounded;
    }
    // No barriers inside: CPU drivers take those of a subgroup for those of the workgroup.
    const bool move = subgroupAny(keep != 1.0);
    sync_subgroup();
    if (move) {
        const uint to = (top + row) * SCORE_STRIDE + lane % PER_ROW * (N / PER_ROW);
        EACH(c, N / PER_ROW) score_shared[to + c] = keep;
    }
    sync_subgroup();
    if (move) {
        coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> factor;
        coopMatLoad(factor, score_shared, top * SCORE_STRIDE, SCORE_STRIDE,
                    gl_CooperativeMatrixLayoutRowMajor);
        EACH(o, OS) sum[o] = sum[o] * factor;
    }
    EACH(j, KS) {
        coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> w;
        coopMatLoad(w, weight_shared, top * WEIGHT_STRIDE + j * K / 4u, WEIGHT_STRIDE,
                    gl_CooperativeMatrixLayoutRowMajor);
        EACH(o, OS) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> value;
            coopMatLoad(value, tile_shared, (COLS + j * K) * STRIDE + o * N / 4u, STRIDE,
                        gl_CooperativeMatrixLayoutRowMajor);
            sum[o] = coopMatMulAdd(w, value, sum[o]);
        }
    }
}


void end()
{
    const uint lane = gl_SubgroupInvocationID, top = gl_SubgroupID * M;
    float total = weight;

    [[unroll]] for (uint mask = 1u; mask < PER_ROW; mask *= 2u)
        total += subgroupShuffleXor(total, mask);
    float factor = total > 0.0 ? 1.0 / total : 0.0;
    if (n_split > 1u) {
        factor = 1.0;
        if (lane % PER_ROW == 0u && first_row + lane / PER_ROW < n_row) {
            F32 to = result_of(first_row + lane / PER_ROW);
            to.v[HD] = base;
            to.v[HD + 1u] = total;
        }
    }
    EACH(o, OS) {
        coopMatStore(sum[o], score_shared, top * SCORE_STRIDE, SCORE_STRIDE,
                     gl_CooperativeMatrixLayoutRowMajor);
        sync_subgroup();
        EACH(j, M * N / LANES) {
            const uint e = j * LANES + lane;
            const uint row = first_row + e / N, d = o * N + e % N;
            const float x = score_shared[(top + e / N) * SCORE_STRIDE + e % N]
                          * subgroupShuffle(factor, e / N * PER_ROW);
            if (row < n_row && d < HD)
                result_of(row).v[d] = x;
        }
        sync_subgroup();
    }
}

// SPDX-License-Identifier: LGPL-2.1-or-later
// attention_coopmat1.glsl — softmax of attention_coopmat.comp with VK_KHR_cooperative_matrix alone.
//
// Only loads and stores know where a matrix's elements are, so scores go through shared memory to
// the lanes and weights come back that way. A row is shared by PARTS lanes side by side; where that
// takes more lanes than there are, each has ITEMS of the rows in turn.
// The exponents' reference moves only when a row's maximum has outgrown it by SLACK (as in
// FlashAttention-4), because scaling the matrices of sums takes a matrix of factors.

const uint SCORE_STRIDE = COLS + 4u, WEIGHT_STRIDE = COLS / 4u + 2u;
const uint NS = COLS / N, KS = COLS / K;
const uint ITEMS = M * PARTS / LANES;  // parts of rows that a lane has
const uint SPAN = COLS / PARTS;        // slots of a part
const float SLACK = 8.0;

shared float score_shared[ROWS * SCORE_STRIDE];
shared f16vec4 weight_shared[ROWS * WEIGHT_STRIDE];

float base[ITEMS];    // what the exponents of the row are relative to
float weight[ITEMS];  // this part of the row's sum

void begin()
{
    EACH(i, ITEMS) {
        base[i] = LOWEST;
        weight[i] = 0.0;
    }
}

// The row of a lane's item.
uint row_of_item(uint i)
{
    return (i * LANES + gl_SubgroupInvocationID) / PARTS;
}

void sync_subgroup()
{
    subgroupMemoryBarrierShared();
    subgroupBarrier();
}

// What each row's sums are to be multiplied with, for multiply_sums().
void put_factors(float factor[ITEMS])
{
    EACH(i, ITEMS) {
        const uint to = (gl_SubgroupID * M + row_of_item(i)) * SCORE_STRIDE
                      + gl_SubgroupInvocationID % PARTS * (N / PARTS);

        EACH(c, N / PARTS) score_shared[to + c] = factor[i];
    }
}

void multiply_sums()
{
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> factor;

    coopMatLoad(factor, score_shared, gl_SubgroupID * M * SCORE_STRIDE, SCORE_STRIDE,
                gl_CooperativeMatrixLayoutRowMajor);
    EACH(o, OS) sum[o] = sum[o] * factor;
}

// Adds slots lo ... hi - 1, at most COLS, of a run whose keys start at `k` and values at `v`,
// `stride` bytes apart. The item's row r sees those below see + r / group.
void attend(uvec2 k, uvec2 v, uint stride, uint lo, uint hi, int see)
{
    const uint top = gl_SubgroupID * M, first = gl_SubgroupInvocationID % PARTS * SPAN;

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

    float keep[ITEMS];
    bool outgrown = false;
    EACH(i, ITEMS) {
        const uint row = row_of_item(i), at = (top + row) * SCORE_STRIDE + first;
        const int end_seen = see + int(row_of(row) / group);
        float score[SPAN];
        float best = LOWEST;
        EACH(c, SPAN) {
            const uint slot = lo + first + c;
            score[c] = slot < hi && int(slot) < end_seen ? score_shared[at + c] : LOWEST;
            best = max(best, score[c]);
        }
        [[unroll]] for (uint mask = 1u; mask < PARTS; mask *= 2u)
            best = max(best, subgroupShuffleXor(best, mask));
        keep[i] = 1.0;
        if (best > base[i] + SLACK) {
            keep[i] = exp2(base[i] - best);  // 0 at the first slot seen
            weight[i] *= keep[i];
            base[i] = best;
        }
        outgrown = outgrown || keep[i] != 1.0;
        EACH(c, SPAN / 4u) {
            vec4 w;
            EACH(e, 4u)
                w[e] = score[4u * c + e] > LOWEST ? exp2(score[4u * c + e] - base[i]) : 0.0;
            const f16vec4 rounded = f16vec4(w);
            weight[i] += float(rounded.x) + float(rounded.y) + float(rounded.z) + float(rounded.w);
            weight_shared[(top + row) * WEIGHT_STRIDE + first / 4u + c] = rounded;
        }
    }
    // No barriers inside: CPU drivers take those of a subgroup for those of the workgroup.
    const bool move = subgroupAny(outgrown);
    sync_subgroup();
    if (move)
        put_factors(keep);
    sync_subgroup();
    if (move)
        multiply_sums();
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
    float factor[ITEMS];

    EACH(i, ITEMS) {
        const uint row = first_row + row_of_item(i);
        float total = weight[i];

        [[unroll]] for (uint mask = 1u; mask < PARTS; mask *= 2u)
            total += subgroupShuffleXor(total, mask);
        factor[i] = total > 0.0 ? 1.0 / total : 0.0;
        if (n_split > 1u) {
            factor[i] = 1.0;
            if (lane % PARTS == 0u && row < n_row) {
                F32 to = result_of(row);
                to.v[HD] = base[i];
                to.v[HD + 1u] = total;
            }
        }
    }
    sync_subgroup();
    put_factors(factor);
    sync_subgroup();
    multiply_sums();
    sync_subgroup();
    EACH(o, OS) {
        coopMatStore(sum[o], score_shared, top * SCORE_STRIDE, SCORE_STRIDE,
                     gl_CooperativeMatrixLayoutRowMajor);
        sync_subgroup();
        EACH(j, M * N / LANES) {
            const uint e = j * LANES + lane;
            const uint row = first_row + e / N, d = o * N + e % N;
            if (row < n_row && d < HD)
                result_of(row).v[d] = score_shared[(top + e / N) * SCORE_STRIDE + e % N];
        }
        sync_subgroup();
    }
}

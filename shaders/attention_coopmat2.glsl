// SPDX-License-Identifier: LGPL-2.1-or-later
// attention_coopmat2.glsl — softmax of attention_coopmat.comp with VK_NV_cooperative_matrix2.
//
// Scores become weights, and weights a factor of the next product, where they are: functions of
// single elements mask and exponentiate, reductions give every element its row's maximum and sum.
// Tiles of FlashAttention-2 (Dao 2023), whose sums are scaled at every step.

#define SCORES coopmat<float, gl_ScopeSubgroup, M, COLS, gl_MatrixUseAccumulator>
#define SUMS   coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>

SCORES base;    // each row's maximum so far, in all its elements
SCORES weight;  // the row's sum, likewise

float larger(const in float a, const in float b)
{
    return max(a, b);
}

float added(const in float a, const in float b)
{
    return a + b;
}

// Of a row whose elements are all the same.
float either(const in float a, const in float b)
{
    return a;
}

float larger_of(const in uint r, const in uint c, const in float a, const in float b)
{
    return max(a, b);
}

float masked(const in uint r, const in uint c, const in float score, const in uint lo,
             const in uint hi, const in int see)
{
    const uint slot = lo + c;

    return slot < hi && int(slot) < see + int(row_of(r) / group) ? score : LOWEST;
}

// Rounded to f16, as the product takes it and the sum must.
float weighed(const in uint r, const in uint c, const in float score, const in float highest)
{
    return score <= LOWEST ? 0.0 : float(float16_t(exp2(score - highest)));
}

float kept(const in uint r, const in uint c, const in float before, const in float highest)
{
    return exp2(before - highest);  // 0 at the first slot seen
}

float inverse_of(const in uint r, const in uint c, const in float total)
{
    return total > 0.0 ? 1.0 / total : 0.0;
}

float put_sums(const in uint r, const in uint c, const in float highest, const in float total)
{
    if (c == 0u && first_row + r < n_row) {
        F32 to = result_of(first_row + r);
        to.v[HD] = highest;
        to.v[HD + 1u] = total;
    }
    return highest;
}

float put(const in uint r, const in uint c, const in float x, const in float factor,
          const in uint column)
{
    if (first_row + r < n_row && column + c < HD)
        result_of(first_row + r).v[column + c] = x * factor;
    return x;
}

void begin()
{
    base = SCORES(LOWEST);
    weight = SCORES(0.0);
}

// Adds slots lo ... hi - 1, at most COLS, of a run whose keys start at `k` and values at `v`,
// `stride` bytes apart. The item's row r sees those below see + r / group.
void attend(uvec2 k, uvec2 v, uint stride, uint lo, uint hi, int see)
{
    SCORES s = SCORES(0.0), highest, keep, total;
    SUMS factor;

    fetch(k, v, stride, lo, hi);
    EACH(d, DS) {
        coopmat<float16_t, gl_ScopeSubgroup, K, COLS, gl_MatrixUseB> key;
        coopMatLoad(key, tile_shared, d * K / 4u, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
        s = coopMatMulAdd(q[d], key, s);
    }
    if (lo + COLS > hi || int(lo + COLS) > see + int(row_of(0u) / group))
        coopMatPerElementNV(s, s, masked, lo, hi, see);
    coopMatReduceNV(highest, s, gl_CooperativeMatrixReduceRowNV, larger);
    coopMatPerElementNV(highest, highest, larger_of, base);
    coopMatPerElementNV(keep, base, kept, highest);
    base = highest;
    coopMatPerElementNV(s, s, weighed, base);
    coopMatReduceNV(total, s, gl_CooperativeMatrixReduceRowNV, added);
    weight = weight * keep + total;
    coopMatReduceNV(factor, keep, gl_CooperativeMatrixReduceRowNV, either);

    const coopmat<float16_t, gl_ScopeSubgroup, M, COLS, gl_MatrixUseA> w =
        coopmat<float16_t, gl_ScopeSubgroup, M, COLS, gl_MatrixUseA>(s);
    EACH(o, OS) {
        coopmat<float16_t, gl_ScopeSubgroup, COLS, N, gl_MatrixUseB> value;
        coopMatLoad(value, tile_shared, COLS * STRIDE + o * N / 4u, STRIDE,
                    gl_CooperativeMatrixLayoutRowMajor);
        sum[o] = coopMatMulAdd(w, value, sum[o] * factor);
    }
}

void end()
{
    SCORES unused, inverse;
    SUMS factor = SUMS(1.0);

    if (n_split > 1u) {
        coopMatPerElementNV(unused, base, put_sums, weight);
    } else {
        coopMatPerElementNV(inverse, weight, inverse_of);
        coopMatReduceNV(factor, inverse, gl_CooperativeMatrixReduceRowNV, either);
    }
    EACH(o, OS)
        coopMatPerElementNV(sum[o], sum[o], put, factor, o * N);
}

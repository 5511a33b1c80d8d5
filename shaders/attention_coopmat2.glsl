// SPDX-License-Identifier: LGPL-2.1-or-later
// attention_coopmat2.glsl — softmax of attention_coopmat.comp with VK_NV_cooperative_matrix2.
//
// Scores become weights, and weights a factor of the next product, where they are: functions of
// single elements mask and exponentiate, reductions give every element its row's maximum and sum.
// Tiles of FlashAttention-2 (Dao 2023), whose sums are scaled at every step.
//
// A step's scores are NS matrices side by side. These are joined element by element before the one
// matrix that comes of it is reduced, whose size the caller chooses: see ops/attention_coopmat.c.

const uint NS = COLS / SCORE_N;

#define SCORES coopmat<float, gl_ScopeSubgroup, M, SCORE_N, gl_MatrixUseAccumulator>
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

// Of a row whose elements are all the same: spreads them over a matrix of another width.
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
    SCORES s[NS], highest, keep, total;
    SUMS factor;

    fetch(k, v, stride, lo, hi);
    EACH(n, NS) {
        const uint first = lo + n * SCORE_N;

        s[n] = SCORES(0.0);
        EACH(d, DS) {
            coopmat<float16_t, gl_ScopeSubgroup, K, SCORE_N, gl_MatrixUseB> key;
            coopMatLoad(key, tile_shared, n * SCORE_N * STRIDE + d * K / 4u, STRIDE,
                        gl_CooperativeMatrixLayoutColumnMajor);
            s[n] = coopMatMulAdd(q[d], key, s[n]);
        }
        if (first + SCORE_N > hi || int(first + SCORE_N) > see + int(row_of(0u) / group))
            coopMatPerElementNV(s[n], s[n], masked, first, hi, see);
        if (n == 0u)
            total = s[0];
        else
            coopMatPerElementNV(total, total, larger_of, s[n]);
    }
    coopMatReduceNV(highest, total, gl_CooperativeMatrixReduceRowNV, larger);
    coopMatPerElementNV(highest, highest, larger_of, base);
    coopMatPerElementNV(keep, base, kept, highest);
    base = highest;
    EACH(n, NS) {
        coopMatPerElementNV(s[n], s[n], weighed, base);
        if (n == 0u)
            total = s[0];
        else
            total = total + s[n];
    }
    coopMatReduceNV(highest, total, gl_CooperativeMatrixReduceRowNV, added);
    weight = weight * keep + highest;
    coopMatReduceNV(factor, keep, gl_CooperativeMatrixReduceRowNV, either);

    coopmat<float16_t, gl_ScopeSubgroup, M, SCORE_N, gl_MatrixUseA> w[NS];
    EACH(n, NS)
        w[n] = coopmat<float16_t, gl_ScopeSubgroup, M, SCORE_N, gl_MatrixUseA>(s[n]);
    EACH(o, OS) {
        sum[o] = sum[o] * factor;
        EACH(n, NS) {
            coopmat<float16_t, gl_ScopeSubgroup, SCORE_N, N, gl_MatrixUseB> value;
            coopMatLoad(value, tile_shared, (COLS + n * SCORE_N) * STRIDE + o * N / 4u, STRIDE,
                        gl_CooperativeMatrixLayoutRowMajor);
            sum[o] = coopMatMulAdd(w[n], value, sum[o]);
        }
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

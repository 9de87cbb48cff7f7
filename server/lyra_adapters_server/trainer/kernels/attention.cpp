// Attention of rows that lie end to end, each token with the tokens of its own row and those that all rows share.
//
// Nothing is padded and no matrix of scores is kept: a few queries at a time meet all their keys, in scratch memory that
// stays in the caches, and the backward pass computes the scores again. Products multiply pairs of bfloat16 into float32.
// Every number is computed by one thread in one order, so that results do not depend on how many there are.

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "vectors.h"

using namespace lyra;

namespace {

constexpr long kQueries = 6;  // At a time: with four vectors of results each they fill the registers.

long up(long count, long unit) { return (count + unit - 1) / unit * unit; }

// A left operand: where the pair `p` of row `r` is, at[r * row + p * step].
struct Left {
  const pair* at;
  long row, step;
};

// C (R x 16 V) = or += A (R x pairs) B (pairs x 16 V).
template <int R, int V>
void tile(Left a, const pair* b, long b_row, long pairs, float* c, long c_row, bool add) {
  __m512 sum[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) sum[r][v] = add ? load(c + r * c_row + v * kLanes) : _mm512_setzero_ps();
  for (long p = 0; p < pairs; ++p) {
    __m512bh right[V];
    for (int v = 0; v < V; ++v) right[v] = (__m512bh)_mm512_loadu_si512(b + p * b_row + v * kLanes);
    for (int r = 0; r < R; ++r) {
      const __m512bh left = (__m512bh)_mm512_set1_epi32(static_cast<int>(a.at[r * a.row + p * a.step]));
      for (int v = 0; v < V; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store(c + r * c_row + v * kLanes, sum[r][v]);
}

using Tile = void (*)(Left, const pair*, long, long, float*, long, bool);
template <int R>
constexpr Tile kTiles[] = {tile<R, 1>, tile<R, 2>, tile<R, 3>, tile<R, 4>};
constexpr const Tile* kTile[] = {kTiles<1>, kTiles<2>, kTiles<3>, kTiles<4>, kTiles<5>, kTiles<6>};

// C (rows <= 6, columns a multiple of 16) = or += A B.
void product(long rows, Left a, const pair* b, long b_row, long pairs, float* c, long c_row, long columns, bool add) {
  for (long column = 0; column < columns; column += 4 * kLanes) {
    const long vectors = std::min(4L, (columns - column) / kLanes);
    kTile[rows - 1][vectors - 1](a, b + column, b_row, pairs, c + column, c_row, add);
  }
}

// Sixteen rows of sixteen pairs become columns.
void transpose(const pair* from, long from_row, pair* to, long to_row) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(from + i * from_row);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + j + 2]);
      a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + j + 2]);
    }
  for (int i = 0; i < 16; i += 8)
    for (int j = 0; j < 4; ++j) {
      b[i + j] = _mm512_shuffle_i32x4(a[i + j], a[i + j + 4], 0x88);
      b[i + j + 4] = _mm512_shuffle_i32x4(a[i + j], a[i + j + 4], 0xdd);
    }
  for (int j = 0; j < 8; ++j) {
    a[j] = _mm512_shuffle_i32x4(b[j], b[j + 8], 0x88);
    a[j + 8] = _mm512_shuffle_i32x4(b[j], b[j + 8], 0xdd);
  }
  for (int j = 0; j < 16; ++j) _mm512_storeu_si512(to + j * to_row, a[j]);
}

// One head of some tokens: (tokens, width), so many elements apart.
struct Head {
  const bf16* at;
  long stride;
  const bf16* operator[](long token) const { return at + token * stride; }
};

// The keys of a row: those that all rows share, then its own.
struct Keys {
  Head head;
  long shared, own_start;
  const bf16* operator[](long key) const { return key < shared ? head[key] : head[own_start + key - shared]; }
};

// (width / 2, places): pairs along the width. Places beyond the keys are 0.
void pack_across(const Keys& keys, long count, long width, pair* to, long places) {
  alignas(64) pair block[16 * 16];
  for (long key = 0; key < places; key += 16)
    for (long p = 0; p < width / 2; p += 16) {
      const long many = std::min(16L, width / 2 - p);
      std::memset(block, 0, sizeof block);
      for (long i = key; i < std::min(key + 16, count); ++i)
        std::memcpy(block + (i - key) * 16, keys[i] + 2 * p, many * sizeof(pair));
      if (many == 16) {
        transpose(block, 16, to + p * places + key, places);
      } else {
        for (long i = 0; i < 16; ++i)
          for (long j = 0; j < many; ++j) to[(p + j) * places + key + i] = block[i * 16 + j];
      }
    }
}

// (half as many as there are tokens, width): pairs of tokens. After an odd count stands a 0.
template <typename Tokens>
void pack_along(const Tokens& tokens, long count, long width, pair* to) {
  for (long token = 0; token < count; token += 2)
    for (long i = 0; i < width; i += kLanes) {
      const __m256i second = token + 1 < count ? load_raw(tokens[token + 1] + i) : _mm256_setzero_si256();
      _mm512_storeu_si512(to + token / 2 * width + i, interleave(load_raw(tokens[token] + i), second));
    }
}

// Scores become weights: of each of the rows, the first `seen`, which grows by `growth` from row to row, get e to the
// scaled score over their sum; the rest, to the end of its vector, becomes 0.
void soften(float* scores, long row_size, long rows, long seen, long growth, float scale) {
  for (long row = 0; row < rows; ++row, seen += growth) {
    float* at = scores + row * row_size;
    const long whole = seen / kLanes * kLanes;
    const __mmask16 rest = static_cast<__mmask16>((1u << (seen - whole)) - 1);
    __m512 most = _mm512_set1_ps(-__builtin_inff());
    for (long i = 0; i < whole; i += kLanes) most = _mm512_max_ps(most, load(at + i));
    if (rest) most = _mm512_mask_max_ps(most, rest, most, load(at + whole));
    const __m512 largest = _mm512_set1_ps(_mm512_reduce_max_ps(most) * scale), factor = _mm512_set1_ps(scale);
    __m512 sum = _mm512_setzero_ps();
    for (long i = 0; i < whole; i += kLanes) {
      const __m512 one = exp(_mm512_fmsub_ps(load(at + i), factor, largest));
      sum = _mm512_add_ps(sum, one);
      store(at + i, one);
    }
    if (rest) {
      const __m512 one = _mm512_maskz_mov_ps(rest, exp(_mm512_fmsub_ps(load(at + whole), factor, largest)));
      sum = _mm512_add_ps(sum, one);
      store(at + whole, one);
    }
    const __m512 inverse = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
    const long end = up(seen, kLanes);
    for (long i = 0; i < end; i += kLanes) store(at + i, _mm512_mul_ps(load(at + i), inverse));
    for (long i = end; i < row_size; i += kLanes) store(at + i, _mm512_setzero_ps());
  }
}

struct Shape {
  long heads, key_heads, width, shared, sequences, tokens, filler;
  const std::int64_t* starts;  // Of each sequence's own tokens; where there are shared ones, they are the first.
  bool causal;
  float scale;

  long own(long s) const { return starts[s + 1] - starts[s]; }
  long before(long s) const { return s > 0 ? shared : 0; }
  long keys(long s) const { return before(s) + own(s); }
  long group() const { return heads / key_heads; }
  // How many keys the query sees that is the last of those up to `query`, and how many more each further one sees.
  long seen(long s, long query) const { return causal ? before(s) + query + 1 : keys(s); }
  long growth() const { return causal ? 1 : 0; }

  // Sequences and key heads, the longest work first.
  std::vector<std::pair<long, long>> tasks() const {
    std::vector<long> order(sequences);
    std::iota(order.begin(), order.end(), 0L);
    std::stable_sort(order.begin(), order.end(), [&](long a, long b) { return own(a) * keys(a) > own(b) * keys(b); });
    std::vector<std::pair<long, long>> found;
    for (long s : order)
      for (long head = 0; head < key_heads; ++head) found.emplace_back(s, head);
    return found;
  }
};

// Memory of one thread that is kept from call to call.
template <typename T, int Number>
T* scratch(long count) {
  static thread_local std::vector<T> kept;
  if (kept.size() < static_cast<std::size_t>(count)) kept.resize(count);
  return kept.data();
}

void forward(const Shape& shape, const bf16* q, long q_stride, const bf16* k, long k_stride, const bf16* v,
             long v_stride, bf16* out, long s, long key_head) {
  const long width = shape.width, own = shape.own(s), count = shape.keys(s), places = up(count, kLanes);
  const long start = shape.starts[s], before = shape.before(s);
  const Keys keys{{k + key_head * width, k_stride}, before, start}, values{{v + key_head * width, v_stride}, before, start};
  pair* across = scratch<pair, 0>(width / 2 * places);
  pair* along = scratch<pair, 1>(up(count, 2) / 2 * width);
  float* scores = scratch<float, 2>(kQueries * places);
  bf16* weights = scratch<bf16, 3>(kQueries * places);
  float* mixed = scratch<float, 4>(kQueries * width);
  pack_across(keys, count, width, across, places);
  pack_along(values, count, width, along);
  for (long g = 0; g < shape.group(); ++g) {
    const long head = key_head * shape.group() + g;
    for (long query = 0; query < own; query += kQueries) {
      const long rows = std::min(kQueries, own - query), seen = shape.seen(s, query + rows - 1);
      const long most = up(seen, kLanes);
      const auto* at = reinterpret_cast<const pair*>(q + (start + query) * q_stride + head * width);
      product(rows, {at, q_stride / 2, 1}, across, places, width / 2, scores, most, most, false);
      soften(scores, most, rows, shape.seen(s, query), shape.growth(), shape.scale);
      for (long i = 0; i < rows * most; i += kLanes) store(weights + i, load(scores + i));
      const Left left{reinterpret_cast<const pair*>(weights), most / 2, 1};
      product(rows, left, along, width, up(seen, 2) / 2, mixed, width, width, false);
      for (long row = 0; row < rows; ++row)
        for (long i = 0; i < width; i += kLanes)
          store(out + ((start + query + row) * shape.heads + head) * width + i, load(mixed + row * width + i));
    }
  }
}

// Where gradients go: of the tokens, contiguous, and of those that all rows share, each sequence's part by itself:
// (sequences, key heads, 2, shared, width), of keys and then of values.
struct Gradients {
  bf16 *q, *k, *v;
  float* shared;
};

void backward(const Shape& shape, const bf16* q, long q_stride, const bf16* k, long k_stride, const bf16* v,
              long v_stride, const bf16* grad, const Gradients& into, long s, long key_head) {
  const long width = shape.width, own = shape.own(s), count = shape.keys(s), places = up(count, kLanes);
  const long start = shape.starts[s], before = shape.before(s), halves = up(own, 2) / 2;
  const long row_size = places + kLanes;  // A block of keys may read a little past what its queries see.
  const Keys keys{{k + key_head * width, k_stride}, before, start}, values{{v + key_head * width, v_stride}, before, start};
  pair* keys_across = scratch<pair, 0>(width / 2 * places);
  pair* keys_along = scratch<pair, 1>(up(count, 2) / 2 * width);
  pair* values_across = scratch<pair, 2>(width / 2 * places);
  pair* queries_along = scratch<pair, 3>(halves * width);
  pair* grad_along = scratch<pair, 4>(halves * width);
  float* weights = scratch<float, 5>(kQueries * row_size);
  float* slopes = scratch<float, 6>(kQueries * row_size);
  bf16* slopes_low = scratch<bf16, 7>(kQueries * row_size);
  // Of pairs of queries, for all keys.
  pair* weights_along = scratch<pair, 8>(up(halves, kQueries) * row_size);
  pair* slopes_along = scratch<pair, 9>(up(halves, kQueries) * row_size);
  float* mixed = scratch<float, 10>(kQueries * width);
  float* grad_keys = scratch<float, 11>(up(count, kQueries) * width);
  float* grad_values = scratch<float, 12>(up(count, kQueries) * width);
  pack_across(keys, count, width, keys_across, places);
  pack_across(values, count, width, values_across, places);
  pack_along(keys, count, width, keys_along);
  for (long g = 0; g < shape.group(); ++g) {
    const long head = key_head * shape.group() + g;
    const Head queries{q + start * q_stride + head * width, q_stride};
    const Head given{grad + (start * shape.heads + head) * width, shape.heads * width};
    pack_along(queries, own, width, queries_along);
    pack_along(given, own, width, grad_along);
    for (long query = 0; query < own; query += kQueries) {
      const long rows = std::min(kQueries, own - query), seen = shape.seen(s, query + rows - 1);
      const long most = up(seen, kLanes);
      const Left left{reinterpret_cast<const pair*>(queries[query]), q_stride / 2, 1};
      product(rows, left, keys_across, places, width / 2, weights, most, most, false);
      soften(weights, most, rows, shape.seen(s, query), shape.growth(), shape.scale);
      const Left from{reinterpret_cast<const pair*>(given[query]), given.stride / 2, 1};
      product(rows, from, values_across, places, width / 2, slopes, most, most, false);
      for (long row = 0; row < rows; ++row) {
        float *p = weights + row * most, *d = slopes + row * most;
        __m512 sum = _mm512_setzero_ps();
        for (long i = 0; i < most; i += kLanes) sum = _mm512_fmadd_ps(load(p + i), load(d + i), sum);
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum)), factor = _mm512_set1_ps(shape.scale);
        for (long i = 0; i < most; i += kLanes) {
          const __m512 slope = _mm512_mul_ps(_mm512_mul_ps(load(p + i), _mm512_sub_ps(load(d + i), mean)), factor);
          store(d + i, slope);
          store(slopes_low + row * most + i, slope);
        }
      }
      const Left low{reinterpret_cast<const pair*>(slopes_low), most / 2, 1};
      product(rows, low, keys_along, width, up(seen, 2) / 2, mixed, width, width, false);
      for (long row = 0; row < rows; ++row)
        for (long i = 0; i < width; i += kLanes)
          store(into.q + ((start + query + row) * shape.heads + head) * width + i, load(mixed + row * width + i));
      for (long row = 0; row < rows; row += 2) {
        pair *p = weights_along + (query + row) / 2 * row_size, *d = slopes_along + (query + row) / 2 * row_size;
        const bool odd = row + 1 == rows;
        for (long i = 0; i < most; i += kLanes) {
          const long one = row * most + i, next = odd ? one : one + most;
          const __m256i nothing = _mm256_setzero_si256();
          _mm512_storeu_si512(
              p + i, interleave(narrow(load(weights + one)), odd ? nothing : narrow(load(weights + next))));
          _mm512_storeu_si512(
              d + i, interleave(narrow(load(slopes + one)), odd ? nothing : narrow(load(slopes + next))));
        }
        _mm512_storeu_si512(p + most, _mm512_setzero_si512());
        _mm512_storeu_si512(d + most, _mm512_setzero_si512());
      }
    }
    for (long key = 0; key < count; key += kQueries) {
      const long rows = std::min(kQueries, count - key);
      // Queries before the first that sees one of these keys have no part in them.
      const long first = shape.causal ? std::max(0L, key - before) / 2 : 0;
      const Left p{weights_along + first * row_size + key, 1, row_size};
      const Left d{slopes_along + first * row_size + key, 1, row_size};
      product(rows, p, grad_along + first * width, width, halves - first, grad_values + key * width, width, width, g > 0);
      product(rows, d, queries_along + first * width, width, halves - first, grad_keys + key * width, width, width, g > 0);
    }
  }
  const bool sharing = shape.shared > 0;
  const long apart = sharing ? (s > 0 ? before : own) : 0;
  float* part = into.shared + (s * shape.key_heads + key_head) * 2 * shape.shared * width;
  if (apart) {
    std::memcpy(part, grad_keys, apart * width * sizeof(float));
    std::memcpy(part + shape.shared * width, grad_values, apart * width * sizeof(float));
  }
  for (long key = apart; key < count; ++key)
    for (long i = 0; i < width; i += kLanes) {
      const long at = ((start + key - before) * shape.key_heads + key_head) * width + i;
      store(into.k + at, load(grad_keys + key * width + i));
      store(into.v + at, load(grad_values + key * width + i));
    }
}

// The sequences' parts of what all rows share, added up in their order.
void add_shared(const Shape& shape, const Gradients& into, long token, long key_head) {
  const long width = shape.width, each = 2 * shape.shared * width;
  for (long i = 0; i < width; i += kLanes) {
    __m512 keys = _mm512_setzero_ps(), values = _mm512_setzero_ps();
    for (long s = 0; s < shape.sequences; ++s) {
      const float* part = into.shared + (s * shape.key_heads + key_head) * each + token * width + i;
      keys = _mm512_add_ps(keys, load(part));
      values = _mm512_add_ps(values, load(part + shape.shared * width));
    }
    store(into.k + (token * shape.key_heads + key_head) * width + i, keys);
    store(into.v + (token * shape.key_heads + key_head) * width + i, values);
  }
}

void clear(bf16* rows, const Shape& shape, long heads) {
  if (rows) std::memset(rows + (shape.tokens - shape.filler) * heads * shape.width, 0,
                        shape.filler * heads * shape.width * sizeof(bf16));
}

}  // namespace

extern "C" {

// Softmax(scale q k^T) v.
//   q: (tokens, heads, width), and k and v: (tokens, key heads, width), with so many elements from one token to the
//   next; out: as q, contiguous. The width is a multiple of 16.
//   starts: (sequences + 1) places where sequences begin; where `shared` is not 0, the first is what all others begin
//   with. Behind the last is `filler`, which gets 0.
void lyra_attention_forward(const bf16* q, long q_stride, const bf16* k, long k_stride, const bf16* v, long v_stride,
                            bf16* out, const std::int64_t* starts, long sequences, long shared, long tokens, long heads,
                            long key_heads, long width, int causal, float scale, int threads) {
  const long filler = tokens - starts[sequences];
  const Shape shape{heads, key_heads, width, shared, sequences, tokens, filler, starts, causal != 0, scale};
  const auto tasks = shape.tasks();
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (std::size_t i = 0; i < tasks.size(); ++i)
    forward(shape, q, q_stride, k, k_stride, v, v_stride, out, tasks[i].first, tasks[i].second);
  clear(out, shape, heads);
}

// The gradients of q, k and v, contiguous, from that of the result, which is contiguous too.
//   grad_shared: scratch, (sequences, key heads, 2, shared, width).
void lyra_attention_backward(const bf16* q, long q_stride, const bf16* k, long k_stride, const bf16* v, long v_stride,
                             const bf16* grad, bf16* grad_q, bf16* grad_k, bf16* grad_v, float* grad_shared,
                             const std::int64_t* starts, long sequences, long shared, long tokens, long heads,
                             long key_heads, long width, int causal, float scale, int threads) {
  const long filler = tokens - starts[sequences];
  const Shape shape{heads, key_heads, width, shared, sequences, tokens, filler, starts, causal != 0, scale};
  const Gradients into{grad_q, grad_k, grad_v, grad_shared};
  const auto tasks = shape.tasks();
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(dynamic)
    for (std::size_t i = 0; i < tasks.size(); ++i)
      backward(shape, q, q_stride, k, k_stride, v, v_stride, grad, into, tasks[i].first, tasks[i].second);
#pragma omp for schedule(static)
    for (long i = 0; i < shared * key_heads; ++i) add_shared(shape, into, i / key_heads, i % key_heads);
  }
  clear(grad_q, shape, heads);
  clear(grad_k, shape, key_heads);
  clear(grad_v, shape, key_heads);
}

}  // extern "C"

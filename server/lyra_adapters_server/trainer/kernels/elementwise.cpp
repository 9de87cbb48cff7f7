// What a layer does to single tokens and elements between its products, one pass over memory each.
//
// All rows are contiguous; widths are multiples of 16.

#include <omp.h>

#include "vectors.h"

using namespace lyra;

namespace {

template <typename T>
void rms_forward(const T* x, const float* weight, float eps, bf16* y, float* inverse, long rows, long width,
                 int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; ++row) {
    const T* in = x + row * width;
    __m512 square = _mm512_setzero_ps();
    for (long i = 0; i < width; i += kLanes) {
      const __m512 one = load(in + i);
      square = _mm512_fmadd_ps(one, one, square);
    }
    const float scale = 1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(square) / static_cast<float>(width) + eps);
    inverse[row] = scale;
    for (long i = 0; i < width; i += kLanes)
      store(y + row * width + i,
            _mm512_mul_ps(_mm512_mul_ps(load(in + i), _mm512_set1_ps(scale)), load(weight + i)));
  }
}

template <typename T>
void rms_backward(const bf16* grad, const T* x, const float* weight, const float* inverse, T* into, long rows,
                  long width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; ++row) {
    const T* in = x + row * width;
    const bf16* given = grad + row * width;
    const __m512 scale = _mm512_set1_ps(inverse[row]);
    __m512 inner = _mm512_setzero_ps();
    for (long i = 0; i < width; i += kLanes)
      inner = _mm512_fmadd_ps(_mm512_mul_ps(load(given + i), load(weight + i)), load(in + i), inner);
    const float along = _mm512_reduce_add_ps(inner) * inverse[row] * inverse[row] / static_cast<float>(width);
    for (long i = 0; i < width; i += kLanes) {
      const __m512 wanted = _mm512_mul_ps(load(given + i), load(weight + i));
      store(into + row * width + i,
            _mm512_mul_ps(_mm512_fnmadd_ps(load(in + i), _mm512_set1_ps(along), wanted), scale));
    }
  }
}

// Of the normal distribution, up to x (Abramowitz and Stegun 7.1.26, within 1.5e-7), and its density there.
inline void normal(__m512 x, __m512& below, __m512& density) {
  const __m512 one = _mm512_set1_ps(1.0f), half = _mm512_set1_ps(0.5f), size = _mm512_abs_ps(x);
  const __m512 bell = exp(_mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.5f)));
  // erfc(|x| / sqrt(2)) = bell * polynomial(t)
  const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(size, _mm512_set1_ps(0.3275911f * 0.70710678f), one));
  __m512 p = _mm512_set1_ps(1.061405429f);
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
  const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(p, t), bell), half);
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  below = _mm512_mask_mov_ps(_mm512_sub_ps(one, tail), negative, tail);
  density = _mm512_mul_ps(bell, _mm512_set1_ps(0.39894228f));
}

inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  return _mm512_div_ps(one, _mm512_add_ps(one, exp(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

}  // namespace

extern "C" {

// y = x / rms(x) * weight, with 1 / rms(x) beside it. x: (rows, width), float32 where `wide`, else bfloat16.
void lyra_rms_forward(const void* x, int wide, const float* weight, float eps, bf16* y, float* inverse, long rows,
                      long width, int threads) {
  if (wide)
    rms_forward(static_cast<const float*>(x), weight, eps, y, inverse, rows, width, threads);
  else
    rms_forward(static_cast<const bf16*>(x), weight, eps, y, inverse, rows, width, threads);
}

void lyra_rms_backward(const bf16* grad, const void* x, int wide, const float* weight, const float* inverse,
                       void* into, long rows, long width, int threads) {
  if (wide)
    rms_backward(grad, static_cast<const float*>(x), weight, inverse, static_cast<float*>(into), rows, width, threads);
  else
    rms_backward(grad, static_cast<const bf16*>(x), weight, inverse, static_cast<bf16*>(into), rows, width, threads);
}

// y = silu(gate) * up, where each row of `both` holds gate and then up.
void lyra_silu_forward(const bf16* both, bf16* y, long rows, long width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; ++row) {
    const bf16 *gate = both + 2 * row * width, *up = gate + width;
    for (long i = 0; i < width; i += kLanes) {
      const __m512 g = load(gate + i);
      store(y + row * width + i, _mm512_mul_ps(_mm512_mul_ps(g, sigmoid(g)), load(up + i)));
    }
  }
}

void lyra_silu_backward(const bf16* grad, const bf16* both, bf16* into, long rows, long width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; ++row) {
    const bf16 *gate = both + 2 * row * width, *up = gate + width;
    bf16 *into_gate = into + 2 * row * width, *into_up = into_gate + width;
    for (long i = 0; i < width; i += kLanes) {
      const __m512 g = load(gate + i), s = sigmoid(g), given = load(grad + row * width + i);
      const __m512 activated = _mm512_mul_ps(g, s);
      store(into_up + i, _mm512_mul_ps(given, activated));
      // silu' = s + silu (1 - s)
      const __m512 slope = _mm512_fmadd_ps(activated, _mm512_sub_ps(_mm512_set1_ps(1.0f), s), s);
      store(into_gate + i, _mm512_mul_ps(_mm512_mul_ps(given, load(up + i)), slope));
    }
  }
}

// y = x * (how much of the normal distribution is below x), which is gelu. The count is a multiple of 16.
void lyra_gelu_forward(const bf16* x, bf16* y, long count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long i = 0; i < count; i += kLanes) {
    __m512 below, density;
    const __m512 one = load(x + i);
    normal(one, below, density);
    store(y + i, _mm512_mul_ps(one, below));
  }
}

void lyra_gelu_backward(const bf16* grad, const bf16* x, bf16* into, long count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long i = 0; i < count; i += kLanes) {
    __m512 below, density;
    const __m512 one = load(x + i);
    normal(one, below, density);
    store(into + i, _mm512_mul_ps(load(grad + i), _mm512_fmadd_ps(one, density, below)));
  }
}

// Rotary positions, in the halves of GPT-NeoX, or (`back`) their transposed map.
// x: (tokens, heads, width), with so many elements from one token to the next; y: the same, contiguous; cos and sin:
// (tokens, width). The width is a multiple of 32.
void lyra_rotate(const bf16* x, long stride, const bf16* cos, const bf16* sin, bf16* y, long tokens, long heads,
                 long width, int back, int threads) {
  const long half = width / 2;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long token = 0; token < tokens; ++token) {
    const bf16 *c = cos + token * width, *s = sin + token * width;
    for (long head = 0; head < heads; ++head) {
      const bf16* in = x + token * stride + head * width;
      bf16* out = y + (token * heads + head) * width;
      for (long i = 0; i < half; i += kLanes) {
        const __m512 low = load(in + i), high = load(in + half + i);
        __m512 a = _mm512_mul_ps(low, load(c + i)), b = _mm512_mul_ps(high, load(c + half + i));
        if (back) {
          a = _mm512_fmadd_ps(high, load(s + half + i), a);
          b = _mm512_fnmadd_ps(low, load(s + i), b);
        } else {
          a = _mm512_fnmadd_ps(high, load(s + i), a);
          b = _mm512_fmadd_ps(low, load(s + half + i), b);
        }
        store(out + i, a);
        store(out + half + i, b);
      }
    }
  }
}

// y = x where a random byte reaches the threshold, else 0; the bytes become 1 there, else 0. The count is a multiple
// of 16.
void lyra_drop(const bf16* x, std::uint8_t* bytes, int threshold, bf16* y, long count, int threads) {
  const __m128i least = _mm_set1_epi8(static_cast<char>(threshold));
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long i = 0; i < count; i += kLanes) {
    const __mmask16 kept = _mm_cmpge_epu8_mask(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i)), least);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), _mm256_maskz_mov_epi16(kept, load_raw(x + i)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + i), _mm_maskz_set1_epi8(kept, 1));
  }
}

// into += x where the mask is not 0.
void lyra_add_kept(bf16* into, const bf16* x, const std::uint8_t* mask, long count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long i = 0; i < count; i += kLanes) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(mask + i));
    const __mmask16 kept = _mm_test_epi8_mask(bytes, bytes);
    const __m512 sum = load(into + i);
    store(into + i, _mm512_mask_add_ps(sum, kept, sum, load(x + i)));
  }
}

}  // extern "C"

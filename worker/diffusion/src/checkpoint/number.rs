//! The types of numbers in a file, and their conversion to single precision.

use bytemuck::cast_slice;
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use safetensors::tensor::Dtype;
use tch::Kind;

/// A stored type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    F16,
    Bf16,
    F32,
    F64,
}

impl Number {
    /// The size of the largest, bytes.
    pub(super) const MAX_BYTES: usize = 8;

    /// Returns the type of a file's header; `None` for those that weights do not have.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F32 => Some(Self::F32),
            Dtype::F64 => Some(Self::F64),
            _ => None,
        }
    }

    /// Returns torch's name of it.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::F16 => Kind::Half,
            Self::Bf16 => Kind::BFloat16,
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
        }
    }

    /// Returns the size of one number.
    pub(super) fn bytes(self) -> usize {
        self.kind().elt_size_in_bytes()
    }

    /// Converts stored numbers as torch does, to as many in single precision. `bytes` are aligned
    /// for this type.
    pub(super) fn to_floats(self, bytes: &[u8], floats: &mut [f32]) {
        match self {
            Self::F16 => cast_slice::<u8, u16>(bytes)
                .reinterpret_cast::<f16>()
                .convert_to_f32_slice(floats),
            // The upper half of a float.
            Self::Bf16 => (floats.iter_mut())
                .zip(cast_slice::<u8, u16>(bytes))
                .for_each(|(float, &bits)| *float = f32::from_bits(u32::from(bits) << 16)),
            Self::F32 => floats.copy_from_slice(cast_slice(bytes)),
            Self::F64 => (floats.iter_mut())
                .zip(cast_slice::<u8, f64>(bytes))
                .for_each(|(float, &double)| *float = double as f32),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;
    use tch::Tensor;

    use super::*;

    /// Compares the conversion of numbers with torch's, bit for bit. Only NaNs may have other bits:
    /// torch's depend on the place in the tensor.
    fn assert_equals_torch(number: Number, bytes: &[u8]) {
        let len = bytes.len() / number.bytes();
        let stored = Tensor::from_data_size(bytes, &[len as i64], number.kind());
        let expected = Vec::<f32>::try_from(stored.to_kind(Kind::Float)).unwrap();
        let mut floats = vec![0.0; len];
        number.to_floats(bytes, &mut floats);
        for (index, (float, expected)) in floats.iter().zip(expected).enumerate() {
            assert!(
                float.to_bits() == expected.to_bits() || float.is_nan() && expected.is_nan(),
                "{number:?}, number {index}: {float:e} instead of {expected:e}"
            );
        }
    }

    /// Includes all NaNs, infinities and subnormal numbers.
    #[test]
    fn every_half_and_bfloat16_is_converted_as_by_torch() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        // Vector instructions take 8 or 16 numbers; the others are converted one by one.
        for skipped in [0, 1, 7, 15] {
            for number in [Number::F16, Number::Bf16] {
                assert_equals_torch(number, cast_slice(&all[skipped..]));
            }
        }
    }

    const DOUBLES: [f64; 12] = [
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        f32::MAX as f64,
        f32::MIN_POSITIVE as f64,
        1e-45,
        // Halfway between two floats: rounded to even.
        1.0 + f32::EPSILON as f64 / 2.0,
        1.0 + f32::EPSILON as f64 * 1.5,
    ];

    #[test]
    fn limits_of_doubles_are_converted_as_by_torch() {
        assert_equals_torch(Number::F64, cast_slice(&DOUBLES));
    }

    proptest! {
        #[test]
        fn floats_and_doubles_of_any_bits_are_converted_as_by_torch(
            bits in prop::collection::vec(any::<u64>(), 0..70),
        ) {
            assert_equals_torch(Number::F32, cast_slice(&bits));
            assert_equals_torch(Number::F64, cast_slice(&bits));
        }
    }
}

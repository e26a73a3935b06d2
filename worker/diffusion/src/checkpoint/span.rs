//! Where numbers lie in a file.

use super::number::Number;

/// Consecutive numbers of one type in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Index of the file.
    pub(super) file: usize,
    /// From the start of the file, bytes.
    pub(super) offset: u64,
    pub(super) number: Number,
    /// Length, numbers.
    pub(super) len: usize,
}

impl Span {
    /// Returns its size in the file.
    pub(super) fn bytes(self) -> usize {
        self.len * self.number.bytes()
    }

    /// Returns the part of `len` numbers from number `start`.
    pub(super) fn part(self, start: usize, len: usize) -> Self {
        Self {
            offset: self.offset + (start * self.number.bytes()) as u64,
            len,
            ..self
        }
    }

    /// Returns its consecutive parts of at most `max` numbers, of which all but the last have that
    /// many; `max` is greater than 0.
    pub(super) fn chunks(self, max: usize) -> impl Iterator<Item = Self> {
        (0..self.len)
            .step_by(max)
            .map(move |start| self.part(start, max.min(self.len - start)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers() -> impl Strategy<Value = Number> {
        prop::sample::select(vec![Number::F16, Number::Bf16, Number::F32, Number::F64])
    }

    proptest! {
        #[test]
        fn chunks_cover_a_span_once_in_order_within_the_bound(
            (offset, number) in (0..1u64 << 40, numbers()),
            (len, max) in (0..5000usize, 1..900usize),
        ) {
            let span = Span { file: 3, offset, number, len };
            let mut end = span.offset;
            for chunk in span.chunks(max) {
                prop_assert_eq!((chunk.file, chunk.number), (span.file, span.number));
                prop_assert_eq!(chunk.offset, end);
                prop_assert!(chunk.len > 0 && chunk.len <= max);
                end += chunk.bytes() as u64;
            }
            prop_assert_eq!(end, span.offset + span.bytes() as u64);
            prop_assert_eq!(span.chunks(max).count(), len.div_ceil(max));
        }

        #[test]
        fn chunks_correspond_to_those_of_a_slice(len in 0..5000usize, max in 1..900usize) {
            let span = Span { file: 0, offset: 0, number: Number::F16, len };
            let lengths = vec![0u8; len];
            let lengths = lengths.chunks(max).map(<[u8]>::len);
            prop_assert!(span.chunks(max).map(|chunk| chunk.len).eq(lengths));
        }
    }
}

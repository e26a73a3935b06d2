//! The memory through which weights go from a file to a tensor.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use tch::{Kind, Tensor};

use super::bytes_of;
use super::number::Number;
use super::span::Span;
use crate::device::Device;
use crate::error::Error;

/// For the CPU, bytes: fits into the second cache of a core, so that numbers are converted from
/// there.
const CPU_BYTES: usize = 256 << 10;
/// For a GPU, bytes: a transfer of this size takes longer than its start.
const GPU_BYTES: usize = 4 << 20;
/// Of the page cache, bytes.
const PAGE_BYTES: usize = 4096;

/// A buffer of one thread.
pub(super) struct Staging {
    /// Bytes, with room for the alignment to a page and for an offset inside of it.
    buffer: Tensor,
    /// Start of the first page in the buffer.
    page: usize,
    capacity: usize,
}

impl Staging {
    /// Allocates a buffer for tensors of a device: in locked pages for a GPU, which reads them
    /// without another copy.
    pub(super) fn new(device: Device) -> Result<Self, Error> {
        let capacity = if device.is_cuda() {
            GPU_BYTES
        } else {
            CPU_BYTES
        };
        let bytes = (capacity + 2 * PAGE_BYTES) as i64;
        let pageable = Tensor::f_empty([bytes], (Kind::Uint8, tch::Device::Cpu))?;
        let mut buffer = match device.is_cuda() {
            true => pageable.f_pin_memory(device.torch())?,
            false => pageable,
        };
        let page = bytes_of(&mut buffer).as_ptr().align_offset(PAGE_BYTES);
        Ok(Self {
            buffer,
            page,
            capacity,
        })
    }

    /// Returns how many numbers it has room for.
    pub(super) fn capacity(&self, number: Number) -> usize {
        self.capacity / number.bytes()
    }

    /// Reads a span that it has room for.
    ///
    /// # Errors
    /// The file is shorter, or cannot be read.
    pub(super) fn read(&mut self, file: &File, span: Span) -> io::Result<Staged<'_>> {
        let start = self.page + offset_in_page(span.offset);
        let range = start..start + span.bytes();
        file.read_exact_at(&mut bytes_of(&mut self.buffer)[range.clone()], span.offset)?;
        Ok(Staged {
            buffer: &mut self.buffer,
            range,
            number: span.number,
        })
    }
}

/// Returns the place in a page of the buffer for a place in a file: the same, aligned for any
/// number. The kernel copies with `rep movsb`, which some processors execute at a third of the
/// speed if the target is a few bytes further in its page than the source.
fn offset_in_page(offset: u64) -> usize {
    let offset = (offset % PAGE_BYTES as u64) as usize;
    offset - offset % Number::MAX_BYTES
}

/// Numbers in a buffer.
pub(super) struct Staged<'a> {
    buffer: &'a mut Tensor,
    range: Range<usize>,
    number: Number,
}

impl Staged<'_> {
    /// Converts them to single precision.
    pub(super) fn copy_to_floats(self, floats: &mut [f32]) {
        let bytes = &bytes_of(self.buffer)[self.range];
        self.number.to_floats(bytes, floats);
    }

    /// Copies them into a flat tensor of any type and device, where they are converted.
    pub(super) fn copy_to_tensor(self, tensor: &mut Tensor) -> Result<(), Error> {
        let (start, len) = (self.range.start as i64, self.range.len() as i64);
        let stored = self.buffer.f_narrow(0, start, len)?;
        let stored = stored.f_view_dtype(self.number.kind())?;
        // Returns after the transfer: the buffer is free again.
        Ok(tensor.f_copy_(&stored.f_to_device(tensor.device())?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_and_never_further_in_their_page_than_in_the_file() {
        for offset in 0..3 * PAGE_BYTES as u64 {
            let place = offset_in_page(offset);
            let behind = offset as usize % PAGE_BYTES - place;
            assert!(place.is_multiple_of(Number::MAX_BYTES) && behind < Number::MAX_BYTES);
        }
    }
}

//! Fills a network's tensors from its files.
//!
//! Threads take parts of tensors from a common list. Each reads into a small buffer of its own and
//! converts from there into the tensor: on the CPU directly, on a GPU after the transfer, during
//! which other threads read.

use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tch::{Kind, Tensor};

use super::span::Span;
use super::staging::Staging;
use super::{Checkpoint, bytes_of};
use crate::device::Device;
use crate::error::Error;
use crate::memory::process;
use crate::panic_guard::guard;

/// More threads would wait for the memory.
const MAX_THREADS: usize = 4;
/// Size of a part, numbers: a millisecond of work, so that threads end together.
const PART_LEN: usize = 2 << 20;

/// A tensor without contents, and where they are.
pub(super) struct Fill {
    /// Name of the stored tensor.
    pub(super) name: String,
    pub(super) span: Span,
    /// Contiguous; as many numbers as the span.
    pub(super) tensor: Tensor,
}

/// Fills tensors of a device. Calls `progress`, on this thread, with the bytes of each part.
///
/// # Errors
/// [`Error::BadCheckpoint`] names the first tensor that cannot be read; the others stay undefined.
pub(super) fn fill(
    checkpoint: &Checkpoint,
    device: Device,
    mut fills: Vec<Fill>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut parts = Vec::new();
    // A tensor without numbers may have no memory.
    for fill in fills.iter_mut().filter(|fill| fill.span.len > 0) {
        parts.extend(fill.whole()?.split(PART_LEN)?);
    }
    let available = thread::available_parallelism().map_or(1, usize::from);
    let threads = available.min(MAX_THREADS).min(parts.len());
    let parts = Mutex::new(parts.into_iter());
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(move || {
                let filled = guard(|| fill_parts(checkpoint, device, &next, &sender));
                filled.or_else(|error| sender.send(Err(error)))
            });
        }
        drop(sender);
        for bytes in results {
            // After an error the channel closes, and so the threads end.
            progress(bytes?);
        }
        Ok(())
    })
}

/// Fills parts until there are no more, or the receiver of the results is gone.
fn fill_parts<'a>(
    checkpoint: &Checkpoint,
    device: Device,
    next: &dyn Fn() -> Option<Part<'a>>,
    results: &Sender<Result<u64, Error>>,
) -> Result<(), Error> {
    let mut staging = Staging::new(device)?;
    while let Some(part) = next() {
        let bytes = part.span.bytes() as u64;
        part.fill(checkpoint, &mut staging)?;
        if results.send(Ok(bytes)).is_err() {
            break;
        }
    }
    Ok(())
}

/// A part of a tensor, and where its contents are.
struct Part<'a> {
    name: &'a str,
    span: Span,
    target: Target<'a>,
}

/// Memory of a tensor.
enum Target<'a> {
    /// Single precision on the CPU.
    Floats(&'a mut [f32]),
    /// Any other type or device: flat.
    Tensor(Tensor),
}

impl Fill {
    fn whole(&mut self) -> Result<Part<'_>, Error> {
        let is_float = self.tensor.kind() == Kind::Float;
        let target = match is_float && self.tensor.device() == tch::Device::Cpu {
            true => Target::Floats(bytemuck::cast_slice_mut(bytes_of(&mut self.tensor))),
            false => Target::Tensor(self.tensor.f_view(-1)?),
        };
        Ok(Part {
            name: &self.name,
            span: self.span,
            target,
        })
    }
}

impl<'a> Part<'a> {
    /// Splits it into consecutive parts of at most `max` numbers.
    fn split(self, max: usize) -> Result<Vec<Self>, Error> {
        let targets = self.target.split(max)?;
        let parts = self.span.chunks(max).zip(targets);
        Ok(parts
            .map(|(span, target)| Part {
                name: self.name,
                span,
                target,
            })
            .collect())
    }

    fn fill(mut self, checkpoint: &Checkpoint, staging: &mut Staging) -> Result<(), Error> {
        let name = self.name;
        if let Target::Floats(floats) = &mut self.target {
            process::provide_pages(floats);
        }
        let capacity = staging.capacity(self.span.number);
        for Part { span, target, .. } in self.split(capacity)? {
            let staged = staging.read(checkpoint.file(span.file), span);
            let staged = staged.map_err(|e| checkpoint.unreadable(name, e))?;
            match target {
                Target::Floats(floats) => staged.copy_to_floats(floats),
                Target::Tensor(mut tensor) => staged.copy_to_tensor(&mut tensor)?,
            }
        }
        Ok(())
    }
}

impl Target<'_> {
    fn split(self, max: usize) -> Result<Vec<Self>, Error> {
        match self {
            Self::Floats(floats) => Ok(floats.chunks_mut(max).map(Self::Floats).collect()),
            Self::Tensor(flat) => {
                let parts = flat.f_split(max as i64, 0)?;
                Ok(parts.into_iter().map(Self::Tensor).collect())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::super::number::Number;
    use super::super::{Destination, OpenFile, arena::Arena};
    use super::*;

    /// Lengths of tensors: of none to several parts, and of some buffers.
    const LENGTHS: [usize; 5] = [0, 1, 131_075, PART_LEN + 3, 7];
    /// Bytes before the first tensor, so that no number is aligned in the file.
    const BEFORE: usize = 13;

    /// Returns a checkpoint with one file: numbers of a type, of all tensors.
    fn checkpoint(numbers: &mut Tensor) -> Checkpoint {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, [&[0; BEFORE], &*bytes_of(numbers)].concat()).unwrap();
        Checkpoint {
            model: String::new(),
            component: String::new(),
            files: vec![OpenFile {
                name: String::new(),
                handle: file.reopen().unwrap(),
            }],
            tensors: BTreeMap::new(),
            part: None,
        }
    }

    fn assert_filled(number: Number, kind: Kind) {
        let len = LENGTHS.iter().sum::<usize>() as i64;
        let numbers = Tensor::arange(len, (Kind::Double, tch::Device::Cpu)).sin() * 300.0;
        let mut numbers = numbers.to_kind(number.kind());
        let checkpoint = checkpoint(&mut numbers);
        let device = Device::Cpu;
        let mut arena = Arena::new(Destination { device, kind });
        let mut start = 0;
        let filled = LENGTHS.map(|len| {
            let span = Span {
                file: 0,
                offset: (BEFORE + start * number.bytes()) as u64,
                number,
                len,
            };
            start += len;
            (span, arena.tensor(&[len as i64]).unwrap())
        });
        let fills = filled.iter().map(|(span, tensor)| Fill {
            name: String::new(),
            span: *span,
            tensor: tensor.shallow_clone(),
        });
        let mut bytes = 0;
        fill(&checkpoint, device, fills.collect(), &mut |part| {
            bytes += part
        })
        .unwrap();
        assert_eq!(bytes, len as u64 * number.bytes() as u64);
        let all = Tensor::cat(&filled.map(|(_, tensor)| tensor), 0);
        assert_eq!(all.kind(), kind);
        assert!(all == numbers.to_kind(kind), "{number:?} as {kind:?}");
    }

    #[test]
    fn stored_types_fill_tensors_of_any_type_as_torch_converts_them() {
        for number in [Number::F16, Number::Bf16, Number::F32, Number::F64] {
            for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
                assert_filled(number, kind);
            }
        }
    }
}

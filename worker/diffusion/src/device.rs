//! The device of tensors.

use std::fmt;
use std::process::Command;
use std::str::FromStr;

use tch::{Kind, Tensor};

use crate::error::Error;
use crate::memory::{Memory, cuda, process};
use crate::panic_guard::guard;

/// The device of a pipeline's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor, in single precision.
    Cpu,
    /// The GPU of this index, in half precision or bfloat16; the autoencoder in single.
    Cuda(usize),
}

impl Device {
    /// Parses `cpu`, `cuda` (the first GPU), `cuda:<index>`, or `auto`: the first GPU if there is
    /// one.
    ///
    /// # Errors
    /// [`Error::NoDevice`] for any other text, and for a GPU that does not exist.
    pub fn parse(text: &str) -> Result<Device, Error> {
        let index = match text {
            "cpu" => return Ok(Device::Cpu),
            "auto" if gpus() == 0 => return Ok(Device::Cpu),
            "auto" | "cuda" => Some(0),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok()),
        };
        let refuse = |message: String| {
            Err(Error::NoDevice {
                requested: text.to_owned(),
                message,
            })
        };
        match (index, gpus()) {
            (None, _) => refuse("expected auto, cpu, cuda or cuda:<index>".to_owned()),
            (Some(_), 0) if !cfg!(libtorch_cuda) => refuse(
                "no GPU was found: this program was built with libtorch's CPU half".to_owned(),
            ),
            (Some(_), 0) => refuse("no GPU was found".to_owned()),
            (Some(index), count) if index >= count => {
                refuse(format!("only {count} GPU(s) were found"))
            }
            (Some(index), _) => Ok(Device::Cuda(index)),
        }
    }

    /// Returns the device's product name, e.g. `NVIDIA H100 80GB HBM3`; the
    /// [`Display`](fmt::Display) form if the system does not provide one.
    pub fn name(&self) -> String {
        let name = match self {
            Device::Cpu => std::fs::read_to_string("/proc/cpuinfo")
                .ok()
                .and_then(|text| {
                    let line = text.lines().find(|line| line.starts_with("model name"))?;
                    Some(line.split_once(':')?.1.trim().to_owned())
                }),
            Device::Cuda(index) => Command::new("nvidia-smi")
                .args([
                    "--query-gpu=name",
                    "--format=csv,noheader",
                    "--id",
                    &index.to_string(),
                ])
                .output()
                .ok()
                .filter(|output| output.status.success())
                .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        };
        name.filter(|name| !name.is_empty())
            .unwrap_or_else(|| self.to_string())
    }

    /// Runs a tiny product of matrices and a tiny convolution to check that the device works. On a
    /// GPU this also starts cuBLAS and cuDNN, which would otherwise delay the first picture.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and others if it does not.
    pub fn self_test(&self) -> Result<(), Error> {
        self.run(|| {
            let ones = |shape: &[i64]| Tensor::f_ones(shape, (self.weight_kind(), self.torch()));
            let product = ones(&[8, 8])?.f_matmul(&ones(&[8, 8])?)?;
            let (picture, kernel) = (ones(&[1, 8, 8, 8])?, ones(&[8, 8, 1, 1])?);
            let convolved = picture.f_conv2d(&kernel, None::<Tensor>, 1, 0, 1, 1)?;
            for (output, expected) in [(product, 512.0), (convolved, 4096.0)] {
                let sum = f64::try_from(output.f_sum(Kind::Float)?)?;
                if sum != expected {
                    let message = format!("a sum is {sum} instead of {expected}");
                    return Err(Error::torch(&message));
                }
            }
            Ok(())
        })
    }

    /// Waits for all operations of the device; a GPU's kernels run asynchronously.
    pub fn synchronize(&self) {
        if let Device::Cuda(index) = *self {
            tch::Cuda::synchronize(i64::try_from(index).unwrap_or(0));
        }
    }

    /// Returns the memory in use, or `None` if the system does not provide it.
    pub fn memory(&self) -> Option<Memory> {
        match *self {
            Device::Cpu => process::memory(),
            Device::Cuda(index) => cuda::memory(index),
        }
    }

    /// Resets the peak.
    pub fn reset_peak_memory(&self) {
        match *self {
            Device::Cpu => process::reset_peak(),
            Device::Cuda(index) => cuda::reset_peak(index),
        }
    }

    /// Returns unused memory to the GPU's driver or the operating system, for other processes. What
    /// tensors had is otherwise kept for the next ones, which is faster within one process.
    pub fn release_unused_memory(&self) {
        match self {
            Device::Cpu => process::release_freed_memory(),
            Device::Cuda(_) => cuda::empty_cache(),
        }
    }

    pub(crate) fn is_cuda(self) -> bool {
        matches!(self, Device::Cuda(_))
    }

    pub(crate) fn torch(self) -> tch::Device {
        match self {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda(index) => tch::Device::Cuda(index),
        }
    }

    /// Returns the type of large weights. A CPU has no fast half precision.
    pub(crate) fn weight_kind(self) -> Kind {
        if self.is_cuda() {
            Kind::Half
        } else {
            Kind::Float
        }
    }

    /// Returns the type of large weights whose states exceed the range of half precision.
    pub(crate) fn wide_weight_kind(self) -> Kind {
        if self.is_cuda() {
            Kind::BFloat16
        } else {
            Kind::Float
        }
    }

    /// Runs tensor code without gradients. tch does not restore that setting after a panic, so
    /// panics are caught inside.
    pub(crate) fn run<T>(self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let _no_gradients = tch::no_grad_guard();
        guard(work)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Device, Error> {
        Device::parse(text)
    }
}

fn gpus() -> usize {
    usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
}

/// Returns a device file of the GPU driver if there is one although no GPU was found.
pub fn unusable_gpu() -> Option<&'static str> {
    const DEVICE_FILES: [&str; 2] = ["/dev/nvidia0", "/dev/nvidiactl"];
    let found = || {
        DEVICE_FILES
            .into_iter()
            .find(|file| std::path::Path::new(file).exists())
    };
    if gpus() == 0 { found() } else { None }
}

/// Sets the number of threads per tensor operation on the CPU, for the whole process. Tiny models
/// run fastest on one: on a busy machine two threads wait for each other.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.clamp(1, 1024)).unwrap_or(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_back_from_what_it_displays() {
        assert_eq!(Device::parse("cpu").unwrap(), Device::Cpu);
        assert_eq!(Device::Cuda(1).to_string(), "cuda:1");
        assert!(!Device::Cpu.name().is_empty());
    }

    #[test]
    fn the_processor_passes_its_self_test() {
        Device::Cpu.self_test().unwrap();
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_that_says_so() {
        let past_the_last = format!("cuda:{}", gpus());
        let message = Device::parse(&past_the_last).unwrap_err().to_string();
        assert!(message.contains("found"), "{message}");
        for nonsense in ["", "gpu", "cuda:", "cuda:-1", "cuda:1.5", "CPU"] {
            assert!(
                matches!(Device::parse(nonsense), Err(Error::NoDevice { .. })),
                "{nonsense:?}"
            );
        }
    }
}

//! Everything that can go wrong, in the terms of whoever has to act on it.

use std::path::PathBuf;

/// The cause below an [`Error`], where another library reported one.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a model could not be found or loaded, or a picture not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller named a model that the catalog has not got.
    #[error("unknown model {name:?}; known: {}", known.join(", "))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names there are, sorted.
        known: Vec<String>,
    },

    /// The caller asked for something that this model cannot do.
    #[error("{field}: {message}")]
    InvalidRequest {
        /// The field of [`Request`](crate::Request) at fault.
        field: &'static str,
        /// What is wrong with its value, and what would be right.
        message: String,
    },

    /// A model folder is damaged, incomplete, or of a kind that is not supported.
    #[error("model {model:?}, {file}{}: {message}", tensor.as_ref().map(|t| format!(", tensor {t}")).unwrap_or_default())]
    BadCheckpoint {
        /// The model's name.
        model: String,
        /// The file at fault, relative to the model's folder.
        file: String,
        /// The tensor at fault, where it is one.
        tensor: Option<String>,
        /// What is wrong with it.
        message: String,
        /// What the file system or a parser said.
        #[source]
        source: Option<Source>,
    },

    /// The folder of models cannot be read.
    #[error("cannot read the models folder {}", path.display())]
    Catalog {
        /// The folder.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },

    /// There is no such device here.
    #[error("device {asked:?}: {message}")]
    NoDevice {
        /// What was asked for.
        asked: String,
        /// What there is instead.
        message: String,
    },

    /// The [`Observer`](crate::Observer) asked to stop.
    #[error("cancelled")]
    Cancelled,

    /// The device has not enough memory for this model or this picture.
    #[error("out of memory: {message}")]
    OutOfMemory {
        /// What torch said, as one clean sentence.
        message: String,
        /// All that torch said, for logs.
        details: String,
    },

    /// The device or its driver failed. On a GPU every later operation of the process fails, too.
    #[error("the device failed: {message}")]
    DeviceLost {
        /// What torch said, as one clean sentence.
        message: String,
        /// All that torch said, for logs.
        details: String,
    },

    /// The model computed numbers that are not finite: its weights are damaged, or overflow in this precision.
    #[error("the model computed no picture: some of its numbers are not finite")]
    NotFinite,

    /// Any other failure inside torch.
    #[error("torch: {message}")]
    Torch {
        /// What torch said, as one clean sentence.
        message: String,
        /// All that torch said, for logs.
        details: String,
    },
}

impl Error {
    /// Reads what torch said.
    pub(crate) fn torch(said: &str) -> Error {
        let (message, details) = (clean(said), said.to_owned());
        match Class::of(said) {
            Class::OutOfMemory => Error::OutOfMemory { message, details },
            Class::DeviceLost => Error::DeviceLost { message, details },
            Class::Other => Error::Torch { message, details },
        }
    }

    /// All that torch said, where it is more than the error's sentence.
    pub fn details(&self) -> Option<&str> {
        match self {
            Error::OutOfMemory { details, .. }
            | Error::DeviceLost { details, .. }
            | Error::Torch { details, .. } => Some(details),
            _ => None,
        }
    }

    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Error {
        Error::InvalidRequest {
            field,
            message: message.into(),
        }
    }

    /// Names the tensor at fault; meaningful for [`Error::BadCheckpoint`] only.
    pub(crate) fn in_tensor(mut self, name: &str) -> Error {
        if let Error::BadCheckpoint { tensor, .. } = &mut self {
            *tensor = Some(name.to_owned());
        }
        self
    }

    /// Keeps the cause; meaningful for [`Error::BadCheckpoint`] only.
    pub(crate) fn because(mut self, cause: impl Into<Source>) -> Error {
        if let Error::BadCheckpoint { source, .. } = &mut self {
            *source = Some(cause.into());
        }
        self
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Error {
        Error::torch(&error.to_string())
    }
}

/// What follows from a message of torch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    OutOfMemory,
    DeviceLost,
    Other,
}

impl Class {
    fn of(said: &str) -> Self {
        // cuDNN finds no engine where its workspace does not fit.
        const OUT_OF_MEMORY: [&str; 9] = [
            "out of memory",
            "can't allocate memory",
            "cannot allocate memory",
            "bad_alloc",
            "not enough memory",
            "status_alloc_failed",
            "cudaerrormemoryallocation",
            "unable to find an engine to execute this computation",
            "failed to allocate memory",
        ];
        const DEVICE_LOST: [&str; 8] = [
            "cuda error",
            "cuda driver error",
            "cuda failure",
            "device-side assert",
            "cublas_status_execution_failed",
            "cublas_status_internal_error",
            "cudnn_status_execution_failed",
            "cudnn_status_internal_error",
        ];
        let said = said.to_lowercase();
        let has = |phrases: &[&str]| phrases.iter().any(|phrase| said.contains(phrase));
        match (has(&OUT_OF_MEMORY), has(&DEVICE_LOST)) {
            (true, _) => Self::OutOfMemory,
            (false, true) => Self::DeviceLost,
            (false, false) => Self::Other,
        }
    }
}

/// Longest sentence made of a message of torch, characters.
const MAX_SENTENCE: usize = 200;

/// The sentence in a message of torch: without stack frames, addresses, paths and the wrapping of a panic.
fn clean(said: &str) -> String {
    let mut text = said;
    // tch panics with the error's debug form, in which line breaks are escaped.
    for opening in ["Torch(\"", "Internal torch error: "] {
        text = text.split_once(opening).map_or(text, |(_, rest)| rest);
    }
    for ending in ["\\n", "\n", "frame #", "Exception raised from"] {
        text = text.split_once(ending).map_or(text, |(first, _)| first);
    }
    // `[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: …`
    if let Some((_, rest)) = text
        .strip_prefix("[enforce fail")
        .and_then(|rest| rest.split_once("] "))
    {
        text = rest.strip_prefix("err == 0. ").unwrap_or(rest);
    }
    let is_printable = |word: &&str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/');
        !bare.starts_with('/') && !bare.starts_with("0x")
    };
    let words: Vec<&str> = text.split_whitespace().filter(is_printable).collect();
    let sentence = words.join(" ");
    let sentence = sentence.strip_suffix("\")").unwrap_or(&sentence);
    match sentence.char_indices().nth(MAX_SENTENCE) {
        Some((end, _)) => format!("{}…", &sentence[..end]),
        None if sentence.is_empty() => "it gave no reason".to_owned(),
        None => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_memory_and_of_the_device_differ_from_other_errors_of_torch() {
        for said in [
            "Internal torch error: CUDA out of memory. Tried to allocate 2.00 GiB.\nframe #0",
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            "GET was unable to find an engine to execute this computation",
            "CUDA error: out of memory",
            "std::bad_alloc",
        ] {
            assert!(
                matches!(Error::torch(said), Error::OutOfMemory { .. }),
                "{said}"
            );
        }
        for said in [
            "CUDA error: an illegal memory access was encountered",
            "CUDA error: device-side assert triggered",
            "CUDA error: no kernel image is available for execution on the device",
            "CUDA error: uncorrectable ECC error encountered",
            "CUDA driver error: unknown error",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
        ] {
            assert!(
                matches!(Error::torch(said), Error::DeviceLost { .. }),
                "{said}"
            );
        }
        for said in [
            "shape '[2]' is invalid",
            "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
        ] {
            assert!(matches!(Error::torch(said), Error::Torch { .. }), "{said}");
        }
    }

    #[test]
    fn a_panic_of_tch_becomes_one_short_sentence_and_the_rest_goes_to_the_log() {
        let said = "called `Result::unwrap()` on an `Err` value: Torch(\"[enforce fail at alloc_cpu.cpp:127] err == 0. \
                    DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes. Error code 12 \
                    (Cannot allocate memory)\\nframe #0: c10::ThrowEnforceNotMet + 0x7e (0x7f922a173d6a in \
                    /opt/torch/lib/libc10.so)\\nframe #1: at /pytorch/c10/core\\n\")";
        let error = Error::torch(said);
        assert_eq!(
            error.to_string(),
            "out of memory: DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes. Error \
             code 12 (Cannot allocate memory)"
        );
        assert_eq!(error.details(), Some(said));
        for (said, sentence) in [
            (
                "Could not run '/a/b.so' at 0x7f00 here",
                "torch: Could not run at here",
            ),
            ("\nframe #0", "torch: it gave no reason"),
        ] {
            assert_eq!(Error::torch(said).to_string(), sentence);
        }
        assert!(
            Error::torch(&"word ".repeat(1000))
                .to_string()
                .chars()
                .count()
                < 300
        );
    }
}

//! Errors, in terms of their remedies.

use std::path::PathBuf;

/// The cause below an [`Error`], where another library reported one.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a model could not be found or loaded, or a picture not be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model is not in the catalog.
    #[error("unknown model {name:?}; known: {}", known.join(", "))]
    UnknownModel {
        /// The requested name.
        name: String,
        /// The catalog, sorted.
        known: Vec<String>,
    },

    /// The model does not support the request.
    #[error("{field}: {message}")]
    InvalidRequest {
        /// The field of [`Request`](crate::Request) at fault.
        field: &'static str,
        /// The error, and the allowed values.
        message: String,
    },

    /// A model folder is damaged, incomplete, or of an unsupported kind.
    #[error("model {model:?}, {file}{}: {message}", tensor.as_ref().map(|t| format!(", tensor {t}")).unwrap_or_default())]
    BadCheckpoint {
        /// The model's name.
        model: String,
        /// The file at fault, relative to the model's folder.
        file: String,
        /// The tensor at fault, if any.
        tensor: Option<String>,
        /// The error.
        message: String,
        /// The error of the file system or parser.
        #[source]
        source: Option<Source>,
    },

    /// The models folder cannot be read.
    #[error("cannot read the models folder {}", path.display())]
    Catalog {
        /// The folder.
        path: PathBuf,
        /// The error of the file system.
        source: std::io::Error,
    },

    /// The device does not exist.
    #[error("device {requested:?}: {message}")]
    NoDevice {
        /// The requested device.
        requested: String,
        /// The reason, and the devices that exist.
        message: String,
    },

    /// The [`Observer`](crate::Observer) stopped the generation.
    #[error("cancelled")]
    Cancelled,

    /// The device has too little memory for this model or picture.
    #[error("out of memory: {message}")]
    OutOfMemory {
        /// Torch's message, as one clean sentence.
        message: String,
        /// Torch's full message, for logs.
        details: String,
    },

    /// The device or its driver failed. On a GPU all later operations of the process fail as well.
    #[error("the device failed: {message}")]
    DeviceLost {
        /// Torch's message, as one clean sentence.
        message: String,
        /// Torch's full message, for logs.
        details: String,
    },

    /// The model computed non-finite numbers: its weights are damaged, or overflow in this
    /// precision.
    #[error("the model computed no picture: some numbers are not finite")]
    NotFinite,

    /// Any other failure inside torch.
    #[error("torch: {message}")]
    Torch {
        /// Torch's message, as one clean sentence.
        message: String,
        /// Torch's full message, for logs.
        details: String,
    },
}

impl Error {
    /// Classifies a message of torch.
    pub(crate) fn torch(said: &str) -> Error {
        let (message, details) = (clean(said), said.to_owned());
        match Class::of(said) {
            Class::OutOfMemory => Error::OutOfMemory { message, details },
            Class::DeviceLost => Error::DeviceLost { message, details },
            Class::Other => Error::Torch { message, details },
        }
    }

    /// Returns torch's full message, if it is more than the error's sentence.
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

    /// Adds the tensor at fault; for [`Error::BadCheckpoint`] only.
    pub(crate) fn in_tensor(mut self, name: &str) -> Error {
        if let Error::BadCheckpoint { tensor, .. } = &mut self {
            *tensor = Some(name.to_owned());
        }
        self
    }

    /// Adds the cause; for [`Error::BadCheckpoint`] only.
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

/// The class of a message of torch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    OutOfMemory,
    DeviceLost,
    Other,
}

impl Class {
    fn of(said: &str) -> Self {
        // cuDNN finds no engine if its workspace does not fit.
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

/// Length limit of a sentence from a message of torch, characters.
const MAX_SENTENCE_CHARS: usize = 200;

/// Extracts the sentence from a message of torch: without stack frames, addresses, paths and the
/// wrapping of a panic.
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
    match sentence.char_indices().nth(MAX_SENTENCE_CHARS) {
        Some((end, _)) => format!("{}…", &sentence[..end]),
        None if sentence.is_empty() => "no reason given".to_owned(),
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
            ("\nframe #0", "torch: no reason given"),
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

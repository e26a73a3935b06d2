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
        /// What torch said.
        message: String,
    },

    /// Any other failure inside torch.
    #[error("torch: {message}")]
    Torch {
        /// What torch said, first line.
        message: String,
    },
}

impl Error {
    /// Reads what torch said.
    pub(crate) fn torch(message: &str) -> Error {
        let out_of_memory = [
            "out of memory",
            "can't allocate memory",
            "bad_alloc",
            "not enough memory",
        ]
        .iter()
        .any(|phrase| message.contains(phrase));
        let message = message.lines().next().unwrap_or_default().to_owned();
        if out_of_memory {
            Error::OutOfMemory { message }
        } else {
            Error::Torch { message }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_failures_are_told_from_other_torch_errors() {
        let cuda =
            "Internal torch error: CUDA out of memory. Tried to allocate 2.00 GiB.\nframe #0";
        let cpu =
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried";
        assert!(
            matches!(Error::torch(cuda), Error::OutOfMemory { message } if !message.contains('\n'))
        );
        assert!(matches!(Error::torch(cpu), Error::OutOfMemory { .. }));
        assert!(matches!(
            Error::torch("shape '[2]' is invalid"),
            Error::Torch { .. }
        ));
    }
}

//! The headers of safetensors files, which name their tensors.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};

use crate::error::Error;
use crate::folder;
use crate::single_file;
use crate::unsupported::{LFS_MESSAGE, is_lfs_pointer_file};

/// The format's limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The header follows its length, a little-endian u64.
const LENGTH_BYTES: u64 = 8;

/// A tensor in a file.
pub(super) struct Entry {
    /// Index of the file.
    pub(super) file: usize,
    pub(super) shape: Vec<i64>,
    pub(super) dtype: Dtype,
    /// Offset from the start of the file, bytes.
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

/// Returns the names, shapes and types of the tensors of a model's single file.
pub(crate) fn header(path: &Path, model: &str) -> Result<single_file::Tensors, Error> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let bad = |message: String| folder::bad(model, &file, message);
    if is_lfs_pointer_file(path) {
        return Err(bad(LFS_MESSAGE.to_owned()));
    }
    let handle = File::open(path).map_err(|e| bad("cannot be read".to_owned()).because(e))?;
    let entries = read_header(&handle, 0, &bad)?.into_iter();
    Ok(entries
        .map(|(name, entry)| (name, (entry.shape, entry.dtype)))
        .collect())
}
/// Reads and checks the header of a safetensors file, the one at index `file`.
pub(super) fn read_header(
    handle: &File,
    file: usize,
    bad: &dyn Fn(String) -> Error,
) -> Result<Vec<(String, Entry)>, Error> {
    let unreadable = |e: std::io::Error| bad("cannot be read".to_owned()).because(e);
    let file_bytes = handle.metadata().map_err(unreadable)?.len();
    if file_bytes < LENGTH_BYTES {
        return Err(bad(format!(
            "{file_bytes} bytes are too few for a safetensors file"
        )));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    handle.read_exact_at(&mut length, 0).map_err(unreadable)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES.min(file_bytes - LENGTH_BYTES) {
        return Err(bad(format!(
            "not a safetensors file, or truncated: a header of {header_bytes} bytes in a file of \
             {file_bytes}"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    handle
        .read_exact_at(&mut header, LENGTH_BYTES)
        .map_err(unreadable)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|e| bad(format!("its header is damaged: {e}")).because(e))?;

    let data = LENGTH_BYTES + header_bytes;
    let mut entries = Vec::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else {
            continue;
        };
        let (start, end) = info.data_offsets;
        if end as u64 > file_bytes - data {
            let message = format!(
                "the file is truncated: {} bytes are missing",
                end as u64 + data - file_bytes
            );
            return Err(bad(message).in_tensor(&name));
        }
        let shape = info.shape.iter().map(|&n| i64::try_from(n));
        let shape = shape.collect::<Result<_, _>>();
        let shape =
            shape.map_err(|_| bad("its shape is out of bounds".to_owned()).in_tensor(&name))?;
        let entry = Entry {
            file,
            shape,
            dtype: info.dtype,
            offset: data + start as u64,
            bytes: end - start,
        };
        entries.push((name, entry));
    }
    if header.data_len() as u64 != file_bytes - data {
        return Err(bad("bytes follow the last tensor".to_owned()));
    }
    Ok(entries)
}

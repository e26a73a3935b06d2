//! Recognizes files that are not weights in a supported format, and names the remedy.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How the text begins that Git LFS stores in place of a large file.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// The error of a file that is only a pointer to it.
pub(crate) const LFS_MESSAGE: &str =
    "a Git LFS pointer instead of the file: run `git lfs pull` in the model's folder";

const GGUF: &str =
    "GGUF is not supported: download the model's folder of safetensors in diffusers' layout";

const PICKLED: &str = "pickled weights are not supported, they may contain code: convert them in \
    Python, with from_pretrained (a folder) or from_single_file (a file) of \
    diffusers.StableDiffusionPipeline, then save_pretrained";

pub(crate) fn is_lfs_pointer(begin: &[u8]) -> bool {
    begin.starts_with(LFS_POINTER)
}

/// As [`is_lfs_pointer`], of a file that may not exist.
pub(crate) fn is_lfs_pointer_file(path: &Path) -> bool {
    let mut begin = [0; LFS_POINTER.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && is_lfs_pointer(&begin)
}

/// Returns the error of a file whose name is that of weights in an unsupported format.
pub(crate) fn weights_message(file: &Path) -> Option<&'static str> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "gguf" => Some(GGUF),
        "bin" | "ckpt" | "pt" | "pth" => Some(PICKLED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_in_other_formats_are_recognized_by_name_and_pointers_by_content() {
        let message = |file: &str| weights_message(Path::new(file));
        assert_eq!(message("a/flux-Q4.GGUF"), Some(GGUF));
        for file in ["v1-5.ckpt", "diffusion_pytorch_model.bin"] {
            assert_eq!(message(file), Some(PICKLED));
        }
        for file in ["model.safetensors", "model_index.json", "bin"] {
            assert_eq!(message(file), None);
        }
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        assert!(is_lfs_pointer(pointer));
        assert!(!is_lfs_pointer(b"{\"version\": 1}"));
        assert!(!is_lfs_pointer_file(Path::new("/does/not/exist")));
    }
}

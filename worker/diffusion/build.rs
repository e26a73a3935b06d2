//! Passes libtorch's location to the linker, here and in every package that builds a binary with
//! this one.
//!
//! A link argument applies only to binaries of the package that prints it, so this script also
//! publishes its arguments, and the build.rs of a dependent package passes them on:
//!
//! ```ignore
//! fn main() {
//!     let args = std::env::var("DEP_WARMQ_DIFFUSION_LINK_ARGS").unwrap_or_default();
//!     for arg in args.split(';').filter(|arg| !arg.is_empty()) {
//!         println!("cargo::rustc-link-arg={arg}");
//!     }
//! }
//! ```

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(libtorch_cuda)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/cuda/memory.cpp");
    // Where torch-sys found libtorch; unset only when documentation is built without one.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        return;
    };

    let mut link_args = vec![format!("-Wl,-rpath,{}", lib.display())];
    if lib.join("libtorch_cuda.so").exists() {
        // No symbol of libtorch_cuda is referenced: it registers itself when loaded. So the linker
        // must be forced to keep it.
        link_args.extend(
            [
                "-Wl,--no-as-needed",
                "-ltorch_cuda",
                "-ltorch",
                "-Wl,--as-needed",
            ]
            .map(String::from),
        );
        println!("cargo::rustc-cfg=libtorch_cuda");
        compile_memory_shim(&lib);
    }
    for arg in &link_args {
        println!("cargo::rustc-link-arg={arg}");
    }
    println!("cargo::metadata=link_args={}", link_args.join(";"));
}

/// Compiles the shim: tch has no memory statistics; libc10 has them, without any CUDA header.
fn compile_memory_shim(lib: &Path) {
    println!("cargo::rerun-if-env-changed=LIBTORCH_INCLUDE");
    let root = env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let root = root.unwrap_or_else(|| lib.join(".."));
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(root.join("include"))
        .file("src/cuda/memory.cpp")
        .compile("warmq_cuda_memory");
}

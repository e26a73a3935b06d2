//! Passes on libtorch's link arguments (its run path), which apply only to the package that prints
//! them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let args = std::env::var("DEP_WARMQ_DIFFUSION_LINK_ARGS").unwrap_or_default();
    for arg in args.split(';').filter(|arg| !arg.is_empty()) {
        println!("cargo::rustc-link-arg={arg}");
    }
}

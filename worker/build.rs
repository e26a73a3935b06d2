//! Passes on how libtorch is linked (its run path): link arguments reach only the package that prints them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let args = std::env::var("DEP_WARMQ_DIFFUSION_LINK_ARGS").unwrap_or_default();
    for arg in args.split(';').filter(|arg| !arg.is_empty()) {
        println!("cargo::rustc-link-arg={arg}");
    }
}

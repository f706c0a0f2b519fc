//! Compiles `bpf/steer.bpf.c` with clang and generates its libbpf-rs skeleton.

use libbpf_cargo::SkeletonBuilder;
use std::{env, path::PathBuf, process::Command};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("steer.skel.rs");
    println!("cargo:rerun-if-changed=bpf");
    let mut arguments: Vec<String> = ["-O2", "-g", "-Wall", "-Werror", "-Ibpf"].map(String::from).into();
    // Debian keeps <asm/types.h> in the multiarch folder; clang -target bpf does not look there.
    if let Some(triple) = multiarch() {
        arguments.push(format!("-I/usr/include/{triple}"));
    }
    if let Err(error) =
        SkeletonBuilder::new().source("bpf/steer.bpf.c").clang_args(arguments).build_and_generate(&out)
    {
        eprintln!("cannot compile bpf/steer.bpf.c: {error:#}");
        eprintln!("needed on Debian: apt-get install gcc libc6-dev make clang libelf-dev m4 pkg-config");
        std::process::exit(1);
    }
}

/// Debian's name of the host (x86_64-linux-gnu), from the compiler that knows it.
fn multiarch() -> Option<String> {
    let output = Command::new("gcc").arg("-print-multiarch").output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

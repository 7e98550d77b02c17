//! Gives the crate a digest of its own code and of the versions it is built with.
//!
//! Tokens that are kept between runs are used again by the very code that made them and by no other: a change here or
//! in the tokenizer's crate may change tokens, and nobody has to think of raising a number.

use std::error::Error;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut files = vec![root.join("../Cargo.lock")];
    collect(&root.join("src"), &mut files)?;
    files.sort_unstable();
    let mut hash = DefaultHasher::new();
    for file in files {
        // Outside of the repository there may be no lock file.
        hash.write(&fs::read(&file).unwrap_or_default());
    }
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    println!("cargo:rustc-env=DATASETS_CODE={:016x}", hash.finish());
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

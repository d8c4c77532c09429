//! The fuzzer's corpus as a test: runs every file of `tests/fuzz/corpus` through its target.

use std::path::{Path, PathBuf};
use std::{fs, panic};

use crate::targets::TARGETS;

#[test]
fn every_file_of_the_corpus_passes_its_target() {
    let mut failed = Vec::new();
    for (name, check) in TARGETS {
        let files = entries(&corpus().join(name));
        assert!(!files.is_empty(), "the target {name} has no corpus");
        println!("{name}: {} files", files.len());
        for file in files {
            let bytes =
                fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            if panic::catch_unwind(|| check(&bytes)).is_err() {
                eprintln!("failed: {}", file.display());
                failed.push(file);
            }
        }
    }
    assert!(failed.is_empty(), "these files fail: {failed:#?}");
}

#[test]
fn every_corpus_belongs_to_a_target() {
    for entry in entries(&corpus()) {
        let is_known = TARGETS.iter().any(|(name, _)| entry.ends_with(name));
        assert!(is_known, "no target for {}", entry.display());
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

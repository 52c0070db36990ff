//! The names of the files that an index leads to.

use std::collections::BTreeSet;
use std::path::Path;

use super::checksum;

/// What the files of one checkpoint are called: by its content, so that a new one leaves those of the old one alone
/// until its index is there.
pub(super) struct Shards<'a> {
    index: &'a Path,
    stem: String,
    content: String,
}

impl<'a> Shards<'a> {
    pub(super) fn new(index: &'a Path, description: &str) -> Self {
        let name = index.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(".json").unwrap_or(&name);
        let stem = stem.strip_suffix(".index").unwrap_or(stem);
        let stem = stem.strip_suffix(".safetensors").unwrap_or(stem).to_owned();
        Self { index, stem, content: checksum::of_text(description) }
    }

    /// Counted from 1.
    pub(super) fn name(&self, number: usize, of: usize) -> String {
        format!("{}-{}-{number:05}-of-{of:05}.safetensors", self.stem, self.content)
    }

    /// Those that are there, of whatever content.
    pub(super) fn present(&self) -> BTreeSet<String> {
        let directory = match self.index.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| self.is_one(name))
            .collect()
    }

    fn is_one(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.stem).and_then(|rest| rest.strip_prefix('-'));
        let Some(rest) = rest.and_then(|rest| rest.strip_suffix(".safetensors")) else { return false };
        let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|char| char.is_digit(radix));
        match rest.split('-').collect::<Vec<_>>()[..] {
            [content, number, "of", of] => {
                content.len() == 8 && digits(content, 16) && digits(number, 10) && digits(of, 10)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_again() {
        let shards = Shards::new(Path::new("model.safetensors.index.json"), "{}");
        let name = shards.name(1, 2);
        assert!(name.starts_with("model-") && name.ends_with("-00001-of-00002.safetensors"), "{name}");
        assert!(shards.is_one(&name));
        for other in
            ["model-00001-of-00002.safetensors", "model.safetensors", "model-b-00000000-1-of-2.safetensors"]
        {
            assert!(!shards.is_one(other), "{other}");
        }
    }
}

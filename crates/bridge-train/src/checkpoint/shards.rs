//! The names of the files that an index leads to.

use std::collections::BTreeSet;
use std::path::Path;

use super::checksum;
use crate::files::Index;

/// What the files of one checkpoint are called: by its content, so that a new one leaves those of the old one alone
/// until its index is there.
pub(super) struct Shards<'a> {
    index: &'a Path,
    stem: String,
    content: String,
}

impl<'a> Shards<'a> {
    /// Of a checkpoint with this description, in files of so many tensors.
    pub(super) fn new(index: &'a Path, description: &str, groups: impl Iterator<Item = usize>) -> Self {
        let name = index.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(".json").unwrap_or(&name);
        let stem = stem.strip_suffix(".index").unwrap_or(stem);
        let stem = stem.strip_suffix(".safetensors").unwrap_or(stem).to_owned();
        let groups: Vec<_> = groups.collect();
        Self { index, stem, content: checksum::of_text(&format!("{description}{groups:?}")) }
    }

    /// Counted from 1.
    pub(super) fn name(&self, number: usize, of: usize) -> String {
        format!("{}-{}-{number:05}-of-{of:05}.safetensors", self.stem, self.content)
    }

    /// Those that the index lists as it is now; none if it can not be read.
    pub(super) fn listed(&self) -> BTreeSet<String> {
        let index = Index::read(self.index).ok().flatten();
        let files = index.iter().flat_map(Index::files);
        files.filter(|name| self.is_one(name)).map(str::to_owned).collect()
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
        let shards = Shards::new(Path::new("model.safetensors.index.json"), "{}", [1, 1].into_iter());
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

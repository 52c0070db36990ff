//! Our step of the MLP as it is, beside the same with an allocator that maps no memory for large blocks and gives none back.

use crate::harness::{Entry, Row};
use crate::networks::data;
use crate::stepper::{Stepper, Threads};

/// Variables that glibc reads at the start.
const SETTINGS: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "1073741824"), ("MALLOC_TRIM_THRESHOLD_", "17179869184")];

pub(crate) fn rows() -> Vec<Entry> {
    vec![Entry::new("allocator/mlp", || {
        let file = data::file("mlp")?;
        let mut command = super::train::our_command("mlp", &file, Threads::Two)?;
        let plain = Stepper::start(&mut command)?;
        let advised = Stepper::start(command.envs(SETTINGS))?;
        Ok(Row::of_programs(plain, "keeps memory", advised))
    })]
}

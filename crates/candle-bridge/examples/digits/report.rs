//! What is printed: progress while it trains, and a table at the end.

use std::io::IsTerminal;

use candle_bridge::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::training::Outcome;
use crate::ways::NAMES;

/// A bar on a terminal, lines elsewhere.
pub struct Progress {
    bar: Option<ProgressBar>,
    epochs: usize,
    seed: i64,
}

impl Progress {
    pub fn new(seed: i64, epochs: usize) -> Self {
        let style = ProgressStyle::with_template("{msg:42} {wide_bar} {pos}/{len}");
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new((NAMES.len() * epochs) as u64);
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, epochs, seed }
    }

    /// An epoch of a way is over.
    pub fn epoch(&mut self, name: &str, epoch: usize, loss: f64) {
        let Self { bar, epochs, seed } = self;
        match bar {
            Some(bar) => {
                bar.set_message(format!("seed {seed} {name}: epoch {epoch}, loss {loss:.4}"));
                bar.inc(1);
            }
            None if epoch == 1 || epoch.is_multiple_of(5) || epoch == *epochs => {
                println!("seed {seed} {name}: epoch {epoch} of {epochs}, loss {loss:.4}");
            }
            None => {}
        }
    }

    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The means over all seeds.
#[derive(Default)]
pub struct Summary {
    seeds: usize,
    rows: Vec<Row>,
    max_loss_difference: f64,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    #[serde(skip)]
    parameters: usize,
    test_accuracy: f64,
    train_loss: f64,
    seconds: f64,
}

impl Summary {
    /// Adds what came of one seed.
    pub fn add(&mut self, outcomes: &[Outcome], max_loss_difference: f64) {
        if self.rows.is_empty() {
            let row = |outcome: &Outcome| Row {
                name: outcome.name,
                parameters: outcome.parameters,
                test_accuracy: 0.,
                train_loss: 0.,
                seconds: 0.,
            };
            self.rows = outcomes.iter().map(row).collect();
        }
        for (row, outcome) in self.rows.iter_mut().zip(outcomes) {
            row.test_accuracy += outcome.test_accuracy;
            row.train_loss += outcome.train_loss;
            row.seconds += outcome.seconds;
        }
        self.seeds += 1;
        self.max_loss_difference = self.max_loss_difference.max(max_loss_difference);
    }

    fn means(&self) -> Vec<Row> {
        let mean = |sum: f64| sum / self.seeds as f64;
        let row = |row: &Row| Row {
            test_accuracy: mean(row.test_accuracy),
            train_loss: mean(row.train_loss),
            seconds: mean(row.seconds),
            ..*row
        };
        self.rows.iter().map(row).collect()
    }

    /// The table.
    pub fn print(&self) {
        if self.seeds > 1 {
            println!("\nmean over {} seeds", self.seeds);
        }
        println!(
            "\n{:<14} {:>10} {:>10} {:>13} {:>8}",
            "way", "parameters", "train loss", "test accuracy", "seconds"
        );
        for row in self.means() {
            let accuracy = format!("{:.2} %", row.test_accuracy * 100.);
            println!(
                "{:<14} {:>10} {:>10.4} {accuracy:>13} {:>8.2}",
                row.name, row.parameters, row.train_loss, row.seconds
            );
        }
        println!(
            "\nlargest difference between a network's loss and the wrapped one's: {}",
            self.max_loss_difference
        );
    }

    /// The results in one line.
    pub fn json(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Line {
            ways: Vec<Row>,
            max_loss_difference: f64,
        }
        let line = Line { ways: self.means(), max_loss_difference: self.max_loss_difference };
        serde_json::to_string(&line).map_err(Error::new)
    }
}

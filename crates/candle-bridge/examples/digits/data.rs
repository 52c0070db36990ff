//! The digits, split into training and test data.

use std::io::Read;

use candle_bridge::prelude::*;
use candle_bridge::random::permutation_vec;

/// Real handwriting; see the README beside it for where it is from.
const DIGITS: &[u8] = include_bytes!("digits.csv.gz");
const PIXELS: usize = 64;
const HELD_OUT: usize = 360;

/// Pixels of shape `[digits, 64]`, from 0 to 1, and labels of shape `[digits]`.
pub struct Digits {
    pub pixels: Tensor,
    pub labels: Tensor,
}

impl Digits {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.elem_count()
    }

    /// Those at these positions.
    pub fn at(&self, positions: &[u32]) -> Result<Digits> {
        let positions = Tensor::new(positions, self.labels.device())?;
        let pixels = self.pixels.index_select(&positions, 0)?;
        Ok(Digits { pixels, labels: self.labels.index_select(&positions, 0)? })
    }
}

/// Training and test data. What is held out does not depend on the seed of a training.
pub fn load(device: &Device) -> Result<(Digits, Digits)> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(DIGITS).read_to_string(&mut text).map_err(Error::new)?;
    let mut pixels: Vec<f32> = Vec::new();
    let mut labels: Vec<u32> = Vec::new();
    for line in text.lines() {
        let mut values = line.split(',').map(str::parse::<u32>);
        for value in values.by_ref().take(PIXELS) {
            pixels.push(value.map_err(Error::new)? as f32 / 16.);
        }
        labels.extend(values.next().transpose().map_err(Error::new)?);
    }
    let count = labels.len();
    let digits = Digits {
        pixels: Tensor::from_vec(pixels, (count, PIXELS), device)?,
        labels: Tensor::from_vec(labels, count, device)?,
    };
    let order = permutation_vec(key(0), count)?;
    let (held_out, rest) = order.split_at(HELD_OUT);
    Ok((digits.at(rest)?, digits.at(held_out)?))
}

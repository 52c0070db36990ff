//! How a parameter gets its first value.

use candle_core::{DType, Device, Shape, Tensor, WithDType};
use serde::{Deserialize, Serialize};

use crate::fill::{draw_tensor, element_count};
use crate::float::for_float_dtype;
use crate::normal::Normal;
use crate::scaled::Scaled;
use crate::truncated_normal::TruncatedNormal;
use crate::uniform::Uniform;
use crate::{Distribution, FanMode, Key, Result, VarianceScaling};

/// How a parameter gets its first value: a plain value itself, which compares and serialises.
///
/// The numbers are those of `jax.nn.initializers` outside of `jit`, bit for bit.
///
/// ```
/// use bridge_random::{Initializer, key};
/// use candle_core::{DType, Device};
///
/// let kernel = Initializer::lecun_normal().init(key(42), (3, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(kernel.get(0)?.get(0)?.to_scalar::<f32>()?, -0.017732522);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Initializer {
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// One number everywhere.
    Constant(f64),
    /// [`normal`](crate::normal) numbers times `stddev`.
    Normal {
        /// The standard deviation.
        stddev: f64,
    },
    /// [`uniform`](crate::uniform) numbers, from 0 to `scale`.
    Uniform {
        /// The upper end.
        scale: f64,
    },
    /// [`truncated_normal`](crate::truncated_normal) numbers times `stddev`.
    TruncatedNormal {
        /// The standard deviation before truncation.
        stddev: f64,
        /// The lower bound, before multiplying.
        lower: f64,
        /// The upper bound, before multiplying.
        upper: f64,
    },
    /// Random numbers scaled by how many units feed a layer, or follow it.
    VarianceScaling(VarianceScaling),
}

impl Initializer {
    /// Normal numbers of this standard deviation. JAX's default is 0.01.
    #[doc(alias = "normal_")]
    #[doc(alias = "randn")]
    pub fn normal(stddev: f64) -> Self {
        Self::Normal { stddev }
    }

    /// Uniform numbers from 0 to `scale`. JAX's default is 0.01.
    #[doc(alias = "uniform_")]
    pub fn uniform(scale: f64) -> Self {
        Self::Uniform { scale }
    }

    /// Normal numbers of this standard deviation within two of them. JAX's default is 0.01.
    #[doc(alias = "trunc_normal_")]
    pub fn truncated_normal(stddev: f64) -> Self {
        Self::TruncatedNormal { stddev, lower: -2.0, upper: 2.0 }
    }

    /// [`VarianceScaling`] with the default axes.
    pub fn variance_scaling(scale: f64, mode: FanMode, distribution: Distribution) -> Self {
        VarianceScaling::new(scale, mode, distribution).into()
    }

    /// Truncated normal of variance 1/fan-in (LeCun et al., 1998). The default of Flax for kernels.
    pub fn lecun_normal() -> Self {
        Self::variance_scaling(1.0, FanMode::In, Distribution::TruncatedNormal)
    }

    /// Uniform of variance 1/fan-in (LeCun et al., 1998).
    pub fn lecun_uniform() -> Self {
        Self::variance_scaling(1.0, FanMode::In, Distribution::Uniform)
    }

    /// Truncated normal of variance 2/(fan-in + fan-out) (Glorot and Bengio, 2010).
    #[doc(alias = "xavier_normal")]
    pub fn glorot_normal() -> Self {
        Self::variance_scaling(1.0, FanMode::Average, Distribution::TruncatedNormal)
    }

    /// Uniform of variance 2/(fan-in + fan-out) (Glorot and Bengio, 2010).
    #[doc(alias = "xavier_uniform")]
    pub fn glorot_uniform() -> Self {
        Self::variance_scaling(1.0, FanMode::Average, Distribution::Uniform)
    }

    /// Truncated normal of variance 2/fan-in, for ReLU (He et al., 2015).
    #[doc(alias = "kaiming_normal")]
    pub fn he_normal() -> Self {
        Self::variance_scaling(2.0, FanMode::In, Distribution::TruncatedNormal)
    }

    /// Uniform of variance 2/fan-in, for ReLU (He et al., 2015).
    #[doc(alias = "kaiming_uniform")]
    pub fn he_uniform() -> Self {
        Self::variance_scaling(2.0, FanMode::In, Distribution::Uniform)
    }

    /// Normal of variance 1/features, for a table `(entries, features)`. The default of Flax for embeddings.
    #[doc(alias = "default_embed_init")]
    pub fn embedding() -> Self {
        Self::VarianceScaling(VarianceScaling {
            out_axis: vec![0],
            ..VarianceScaling::new(1.0, FanMode::In, Distribution::Normal)
        })
    }

    /// A new tensor. Constant initializers do not look at the key.
    ///
    /// Dtypes: f32, f64; `Zeros` and `Ones` any that candle has. The scalars are rounded to the dtype first. The numbers
    /// are made on the host and sent to `device`, but for zeros and ones.
    ///
    /// # Errors
    ///
    /// Another dtype; bounds that are not in order; for [`VarianceScaling`], a shape of fewer than two dimensions, without
    /// one of the axes, or with a fan of 0, and a negative scale.
    pub fn init(&self, key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = shape.into();
        match self {
            Self::Zeros => {
                element_count::<f64>(&shape)?;
                Ok(Tensor::zeros(shape, dtype, device)?)
            }
            Self::Ones => {
                element_count::<f64>(&shape)?;
                Ok(Tensor::ones(shape, dtype, device)?)
            }
            Self::Constant(value) => for_float_dtype!(dtype, "constant", T => {
                let values = vec![T::from_f64(*value); element_count::<T>(&shape)?];
                Ok(Tensor::from_vec(values, shape, device)?)
            }),
            Self::Normal { stddev } => for_float_dtype!(dtype, "normal", T => {
                let factor = T::from_f64(*stddev);
                let sampler = Normal::<T>::new();
                draw_tensor(Scaled { sampler, factor }, key, shape, device)
            }),
            Self::Uniform { scale } => for_float_dtype!(dtype, "uniform", T => {
                let factor = T::from_f64(*scale);
                let sampler = Uniform::<T>::unit();
                draw_tensor(Scaled { sampler, factor }, key, shape, device)
            }),
            Self::TruncatedNormal { stddev, lower, upper } => {
                for_float_dtype!(dtype, "truncated_normal", T => {
                    let factor = T::from_f64(*stddev);
                    let sampler = TruncatedNormal::<T>::new(*lower, *upper)?;
                    draw_tensor(Scaled { sampler, factor }, key, shape, device)
                })
            }
            Self::VarianceScaling(scaling) => scaling.init(key, shape, dtype, device),
        }
    }
}

impl From<VarianceScaling> for Initializer {
    fn from(scaling: VarianceScaling) -> Self {
        Self::VarianceScaling(scaling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, key};

    #[test]
    fn serialises_under_the_names_of_jax() {
        let json = serde_json::to_value(Initializer::glorot_normal()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"VarianceScaling": {
                "scale": 1.0, "mode": "fan_avg", "distribution": "truncated_normal",
                "in_axis": [-2], "out_axis": [-1], "batch_axis": []
            }})
        );
        for initializer in [
            Initializer::Zeros,
            Initializer::Constant(0.3),
            Initializer::truncated_normal(0.02),
            Initializer::embedding(),
        ] {
            let json = serde_json::to_string(&initializer).unwrap();
            assert_eq!(serde_json::from_str::<Initializer>(&json).unwrap(), initializer);
        }
    }

    #[test]
    fn constants_do_not_look_at_the_key() {
        let init = |initializer: Initializer, seed, dtype| {
            initializer.init(key(seed), (2, 3), dtype, &Device::Cpu).unwrap()
        };
        for initializer in [Initializer::Zeros, Initializer::Constant(0.3)] {
            let [a, b] = [0, 1].map(|seed| {
                let tensor = init(initializer.clone(), seed, DType::F64);
                tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap()
            });
            assert_eq!(a, b);
        }
        assert_eq!(init(Initializer::Ones, 0, DType::BF16).dtype(), DType::BF16);
    }

    #[test]
    fn errors_come_before_memory() {
        let huge = (usize::MAX, 2);
        for initializer in [
            Initializer::Zeros,
            Initializer::Ones,
            Initializer::Constant(1.0),
            Initializer::normal(1.0),
            Initializer::lecun_normal(),
        ] {
            let error = initializer.init(key(0), huge, DType::F32, &Device::Cpu).unwrap_err();
            assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        }
        let error = Initializer::normal(1.0).init(key(0), 3, DType::U8, &Device::Cpu);
        assert!(matches!(error.unwrap_err(), Error::UnsupportedDType { found: DType::U8, .. }));
    }
}

//! How a parameter gets its first value.

use candle_core::{DType, Device, Shape, Tensor, WithDType};
use serde::{Deserialize, Serialize};

use crate::fill::{element_count, element_count_of_size};
use crate::float::{Float, for_float_dtype};
use crate::normal::Normal;
use crate::scaled::draw_scaled;
use crate::truncated_normal::TruncatedNormal;
use crate::uniform::Unit;
use crate::{CustomInitializer, Distribution, Error, FanMode, Key, Result, VarianceScaling};
use crate::{number_or_text, orthogonal};

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
    Constant(#[serde(with = "number_or_text")] f64),
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
        #[serde(with = "number_or_text")]
        lower: f64,
        /// The upper bound, before multiplying.
        #[serde(with = "number_or_text")]
        upper: f64,
    },
    /// Random numbers scaled by how many units feed a layer, or follow it.
    VarianceScaling(VarianceScaling),
    /// A random matrix whose columns (rows, if there are more columns than rows) are orthonormal, times `scale` (Saxe et al.,
    /// 2014). Dimensions other than the columns' are its rows.
    Orthogonal {
        /// What the matrix is multiplied with.
        scale: f64,
        /// The axis of the columns; a negative one counts from the end.
        column_axis: isize,
    },
    /// A kernel of a convolution, laid out `(spatial.., inputs, outputs)`, that has an orthogonal matrix at its centre and is
    /// zero elsewhere (Xiao et al., 2018). For 1 to 3 spatial axes and no fewer outputs than inputs.
    DeltaOrthogonal {
        /// What the matrix is multiplied with.
        scale: f64,
        /// The axis of the matrix's columns; a negative one counts from the end.
        column_axis: isize,
    },
    /// A function of one's own: [`Initializer::from_fn`].
    Custom(CustomInitializer),
    /// The numbers that JAX gives where the initializer runs inside of `jit`: [`Initializer::under_jit`].
    Jit(Box<Initializer>),
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

    /// [`Initializer::Orthogonal`] of scale 1, with the columns on the last axis. The default of Flax for recurrent kernels.
    ///
    /// For f32 and f64; others are made by a closure that converts. The time it takes grows with the cube of the size.
    #[doc(alias = "orthogonal_")]
    pub fn orthogonal() -> Self {
        Self::Orthogonal { scale: 1.0, column_axis: -1 }
    }

    /// [`Initializer::DeltaOrthogonal`] of scale 1, with the columns on the last axis.
    pub fn delta_orthogonal() -> Self {
        Self::DeltaOrthogonal { scale: 1.0, column_axis: -1 }
    }

    /// A function or closure that makes a tensor of a shape and dtype on a device.
    ///
    /// ```
    /// use bridge_random::{Initializer, key, laplace};
    /// use candle_core::{DType, Device};
    ///
    /// let initializer = Initializer::from_fn(|key, shape, dtype, device| {
    ///     Ok((laplace(key, shape, dtype, device)? * 0.01)?)
    /// });
    /// assert_eq!(initializer.init(key(0), (2, 3), DType::F32, &Device::Cpu)?.dims(), [2, 3]);
    /// # Ok::<(), bridge_random::Error>(())
    /// ```
    pub fn from_fn<F>(function: F) -> Self
    where
        F: Fn(Key, &Shape, DType, &Device) -> Result<Tensor> + Send + Sync + 'static,
    {
        Self::Custom(CustomInitializer::new(function))
    }

    /// The numbers that JAX gives where the initializer runs inside of `jit`, as in `jax.jit(model.init)`.
    ///
    /// There, XLA evaluates what depends on constants alone in another way. Normal numbers (of embeddings, for instance) differ
    /// in the last bit, truncated ones by about 1e-7 if the bounds are not -2 and 2; all others are the same.
    ///
    /// ```
    /// use bridge_random::Initializer;
    ///
    /// let initializer = Initializer::embedding().under_jit();
    /// assert_ne!(initializer, Initializer::embedding());
    /// ```
    #[doc(alias = "jax.jit")]
    #[must_use]
    pub fn under_jit(self) -> Self {
        match self {
            Self::Jit(_) => self,
            eager => Self::Jit(Box::new(eager)),
        }
    }

    /// A new tensor. Constant initializers do not look at the key.
    ///
    /// Dtypes: f32, f64, f16, bf16; `Zeros` and `Ones` any that candle has; orthogonal ones f32 and f64; a closure what it
    /// makes. The scalars are rounded to the dtype first. The numbers are made on the host and sent to `device`, but for
    /// zeros and ones.
    ///
    /// # Errors
    ///
    /// Another dtype; a scale whose numbers are not finite in the dtype; bounds that are not in order; for [`VarianceScaling`],
    /// a shape of fewer than two dimensions, without one of the axes, or with a fan of 0, and a negative scale; for an
    /// orthogonal one, a shape of too few or too many dimensions; for a closure, what it returns, a tensor of another shape or
    /// dtype, or that it was read from a file.
    pub fn init(&self, key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
        self.init_as(key, shape.into(), dtype, device, false)
    }

    fn init_as(&self, key: Key, shape: Shape, dtype: DType, device: &Device, jit: bool) -> Result<Tensor> {
        match self {
            Self::Zeros | Self::Ones => {
                // These are made where they go: only on the CPU in memory that can be tried here.
                let size = if device.is_cpu() { dtype.size_in_bytes() } else { 0 };
                element_count_of_size(&shape, size)?;
                let filled = if *self == Self::Zeros { Tensor::zeros } else { Tensor::ones };
                Ok(filled(shape, dtype, device)?)
            }
            Self::Constant(value) => for_float_dtype!(dtype, "constant", T => {
                let number = T::number(*value);
                if value.is_finite() && !number.to_f64().is_finite() {
                    return Err(Error::Factor { found: *value, dtype });
                }
                let values = vec![number; element_count::<T>(&shape)?];
                Ok(Tensor::from_vec(values, shape, device)?)
            }),
            Self::Normal { stddev } => for_float_dtype!(dtype, "normal", T => {
                Normal::draw_scaled(T::number(*stddev), key, shape, device, jit)
            }),
            Self::Uniform { scale } => for_float_dtype!(dtype, "uniform", T => {
                let factor = T::number(*scale);
                let sampler = Unit::<T>::new();
                draw_scaled(sampler, factor, key, shape, device)
            }),
            Self::TruncatedNormal { stddev, lower, upper } => {
                for_float_dtype!(dtype, "truncated_normal", T => {
                    let factor = T::number(*stddev);
                    let (lower, upper) = (T::number(*lower), T::number(*upper));
                    let sampler = match jit {
                        true => TruncatedNormal::with_constant_bounds(lower, upper)?,
                        false => TruncatedNormal::new(lower, upper)?,
                    };
                    draw_scaled(sampler, factor, key, shape, device)
                })
            }
            Self::VarianceScaling(scaling) => scaling.init(key, shape, dtype, device, jit),
            Self::Orthogonal { scale, column_axis } => {
                orthogonal::orthogonal(key, *scale, *column_axis, shape, dtype, device)
            }
            Self::DeltaOrthogonal { scale, column_axis } => {
                orthogonal::delta_orthogonal(key, *scale, *column_axis, shape, dtype, device)
            }
            Self::Custom(custom) => custom.init(key, shape, dtype, device),
            Self::Jit(initializer) => initializer.init_as(key, shape, dtype, device, true),
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
    use crate::key;

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
            Initializer::embedding().under_jit(),
            Initializer::delta_orthogonal(),
            Initializer::Constant(f64::NEG_INFINITY),
            Initializer::TruncatedNormal { stddev: 1.0, lower: -1.0, upper: f64::INFINITY },
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
    }

    #[test]
    fn what_would_be_infinite_or_nan_is_an_error() {
        let check = |initializer: Initializer, dtype| {
            for initializer in [initializer.clone(), initializer.under_jit()] {
                let error = initializer.init(key(0), (3, 4), dtype, &Device::Cpu).unwrap_err();
                assert!(matches!(error, Error::Factor { .. } | Error::Variance { .. }), "{error}");
            }
        };
        for bad in [f64::NAN, f64::INFINITY] {
            check(Initializer::normal(bad), DType::F32);
            check(Initializer::uniform(bad), DType::F64);
            check(Initializer::truncated_normal(bad), DType::BF16);
            check(Initializer::Orthogonal { scale: bad, column_axis: -1 }, DType::F32);
            check(Initializer::variance_scaling(bad, FanMode::In, Distribution::Normal), DType::F32);
        }
        check(Initializer::normal(1e5), DType::F16);
        // The factor is a number of the dtype, but its products are not.
        check(Initializer::normal(6e4), DType::F16);
        check(Initializer::normal(3e38), DType::F32);
        check(Initializer::Constant(1e5), DType::F16);
        check(Initializer::variance_scaling(1e300, FanMode::In, Distribution::Uniform), DType::F32);
    }

    #[test]
    fn other_dtypes_are_errors() {
        let error = Initializer::normal(1.0).init(key(0), 3, DType::U8, &Device::Cpu);
        assert!(matches!(error.unwrap_err(), Error::UnsupportedDType { found: DType::U8, .. }));
    }
}

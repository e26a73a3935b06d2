//! Latents as data: noise to start from, and the result before decoding.

use std::borrow::Cow;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Kind, Tensor};

use crate::error::Error;

/// The tensor's name in a file.
const KEY: &str = "latents";

/// Latents of one picture, in the layout of diffusers' `latents=` argument: `[1, 4, h/8, w/8]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Latents {
    shape: Vec<i64>,
    values: Vec<f32>,
}

impl Latents {
    /// Reads the tensor `latents` of a safetensors file.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`]: the file is damaged, or its tensor is missing or not of floats.
    pub fn from_safetensors(file: &[u8]) -> Result<Latents, Error> {
        let refuse = |message: String| Error::invalid(KEY, message);
        let tensors = SafeTensors::deserialize(file)
            .map_err(|e| refuse(format!("not a safetensors file: {e}")))?;
        let stored = tensors.tensor(KEY).map_err(|_| {
            let names = tensors.names().join(", ");
            refuse(format!("the file has no tensor 'latents', only: {names}"))
        })?;
        let kind = match stored.dtype() {
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            other => return Err(refuse(format!("its type is {other}, not a float's"))),
        };
        let shape: Vec<i64> = (stored.shape().iter())
            .map(|&side| i64::try_from(side).unwrap_or(i64::MAX))
            .collect();
        Latents::from_tensor(&Tensor::f_from_data_size(stored.data(), &shape, kind)?)
    }

    /// Returns a safetensors file with the tensor `latents`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the format cannot contain it.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let refuse = |e: safetensors::SafeTensorError| Error::invalid(KEY, e.to_string());
        let bytes: Vec<u8> = self.values.iter().flat_map(|n| n.to_le_bytes()).collect();
        let shape = self
            .shape
            .iter()
            .map(|&n| n.unsigned_abs() as usize)
            .collect();
        let view = TensorView::new(Dtype::F32, shape, &bytes).map_err(refuse)?;
        safetensors::serialize([(Cow::Borrowed(KEY), view)], None).map_err(refuse)
    }

    /// Returns the shape.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    pub(crate) fn from_tensor(tensor: &Tensor) -> Result<Latents, Error> {
        let flat = tensor
            .f_to_device(tch::Device::Cpu)?
            .f_to_kind(Kind::Float)?;
        Ok(Latents {
            shape: tensor.size(),
            values: Vec::try_from(flat.f_contiguous()?.f_view(-1)?)?,
        })
    }

    pub(crate) fn tensor(&self) -> Tensor {
        Tensor::from_slice(&self.values).view(self.shape.as_slice())
    }

    /// Returns the height and width in cells; `None` if there are not four dimensions.
    pub(crate) fn cells(&self) -> Option<(u32, u32)> {
        match self.shape.as_slice() {
            &[_, _, height, width] => {
                Some((u32::try_from(height).ok()?, u32::try_from(width).ok()?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_survive_a_file_in_any_type_of_floats() {
        let numbers = Tensor::from_slice(&[0.5f32, -1.0, 2.0, 0.25]).view([1, 1, 2, 2]);
        let latents = Latents::from_tensor(&numbers).unwrap();
        let file = latents.to_safetensors().unwrap();
        assert_eq!(Latents::from_safetensors(&file).unwrap(), latents);
        assert_eq!(latents.tensor(), numbers);
        assert_eq!(latents.cells(), Some((2, 2)));

        let halves: Vec<u8> = [0x3800u16, 0xbc00]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        let view = TensorView::new(Dtype::F16, vec![2], &halves).unwrap();
        let file = safetensors::serialize([("latents", view)], None).unwrap();
        assert_eq!(
            Latents::from_safetensors(&file).unwrap().values,
            [0.5, -1.0]
        );
    }

    #[test]
    fn a_file_without_latents_is_refused_by_what_it_has() {
        let view = TensorView::new(Dtype::U8, vec![1], &[7]).unwrap();
        let error = |name: &str| {
            let file = safetensors::serialize([(name, view.clone())], None).unwrap();
            Latents::from_safetensors(&file).unwrap_err().to_string()
        };
        assert!(error("noise").ends_with("no tensor 'latents', only: noise"));
        assert!(error("latents").contains("its type is U8"));
        let error = Latents::from_safetensors(b"text").unwrap_err().to_string();
        assert!(
            error.starts_with("latents: not a safetensors file"),
            "{error}"
        );
    }
}

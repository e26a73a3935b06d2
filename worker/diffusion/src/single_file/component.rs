//! Where a network's tensors are in a single file.

use crate::manifest::{
    Manifest, Networks, TEXT_2_WEIGHTS, TEXT_WEIGHTS, TRANSFORMER_WEIGHTS, UNET_WEIGHTS, UNetSpec,
    VAE_WEIGHTS,
};
use crate::original_names::{Stored, of_autoencoder, of_flux, of_open_clip, of_unet_layer};

/// How the names of each network's tensors begin. Files of FLUX.1 have the UNet's prefix or none.
pub(super) const UNET: &str = "model.diffusion_model.";
pub(super) const VAE: &str = "first_stage_model.";
pub(super) const CLIP: &str = "cond_stage_model.transformer.";
pub(super) const XL_CLIP: &str = "conditioner.embedders.0.transformer.";
pub(super) const XL_OPEN_CLIP: &str = "conditioner.embedders.1.model.";

/// Ends of names of tensors inside a network that are no weights of it.
const UNUSED: [&str; 2] = ["position_ids", "logit_scale"];

/// A network's part of a single file.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    prefix: &'static str,
    layout: Layout,
}

#[derive(Debug, Clone)]
enum Layout {
    Unet(Box<UNetSpec>),
    Autoencoder {
        /// Blocks of the decoder.
        levels: usize,
    },
    Flux,
    /// transformers' names, with or without those of the surrounding model.
    Clip,
    OpenClip,
}

impl Component {
    /// Returns the part of a component, e.g. of `unet/diffusion_pytorch_model`; `None` if single
    /// files of this family lack it.
    pub(crate) fn of(manifest: &Manifest, stem: &str) -> Option<Self> {
        let (prefix, layout) = match (stem, &manifest.networks) {
            (TRANSFORMER_WEIGHTS, Networks::Flux(_)) => {
                (manifest.single_file.as_ref()?.prefix, Layout::Flux)
            }
            (UNET_WEIGHTS, networks) => (UNET, Layout::Unet(Box::new(networks.unet()?.clone()))),
            (VAE_WEIGHTS, Networks::Sd(_) | Networks::Sdxl(_)) => {
                let levels = manifest.vae.block_out_channels.len();
                (VAE, Layout::Autoencoder { levels })
            }
            (TEXT_WEIGHTS, Networks::Sd(_)) => (CLIP, Layout::Clip),
            (TEXT_WEIGHTS, Networks::Sdxl(_)) => (XL_CLIP, Layout::Clip),
            (TEXT_2_WEIGHTS, Networks::Sdxl(_)) => (XL_OPEN_CLIP, Layout::OpenClip),
            _ => return None,
        };
        Some(Self { prefix, layout })
    }

    /// Returns the name of a tensor of the file inside this part; `None` outside of it.
    pub(crate) fn inner_name<'a>(&self, name: &'a str) -> Option<&'a str> {
        let inner = name.strip_prefix(self.prefix)?;
        if UNUSED.iter().any(|unused| inner.ends_with(unused)) {
            return None;
        }
        match self.layout {
            Layout::Clip => Some(inner.strip_prefix("text_model.").unwrap_or(inner)),
            _ => Some(inner),
        }
    }

    /// Returns the stored tensor, by its name inside this part, of a tensor with the network's
    /// name.
    pub(crate) fn stored(&self, name: &str) -> Stored {
        let found = match &self.layout {
            Layout::Unet(spec) => name.rsplit_once('.').and_then(|(layer, parameter)| {
                let layer = of_unet_layer(layer, spec)?;
                Some(Stored::whole(format!("{layer}.{parameter}")))
            }),
            Layout::Autoencoder { levels } => of_autoencoder(name, *levels).map(Stored::whole),
            Layout::Flux => of_flux(name),
            Layout::Clip => None,
            Layout::OpenClip => of_open_clip(name),
        };
        found.unwrap_or_else(|| Stored::whole(name))
    }
}

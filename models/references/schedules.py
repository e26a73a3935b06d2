"""Writes worker/diffusion/tests/schedules.json: what diffusers' schedulers compute of a prediction
that both sides compute alike.

    python -m models.references.schedules
"""

import json
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

TARGET = Path(__file__).parents[2] / "worker/diffusion/tests/schedules.json"

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

VELOCITY = {"prediction_type": "v_prediction"}
ZERO_SNR = {**VELOCITY, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
TRAINED = {"trained_betas": [round(0.0001 + 0.00002 * step, 5) for step in range(1000)]}
KARRAS = {"use_karras_sigmas": True}
SIGMA_MIN = {"final_sigmas_type": "sigma_min"}
EXPONENTIAL = {"use_exponential_sigmas": True}
CLIPPED = {"clip_sample": True, "clip_sample_range": 0.4}
UNFORCED = {"clip_sample": True, "steps_offset": 0}

SPACINGS = [{"timestep_spacing": name} for name in ("linspace", "leading", "trailing")]

CASES = {
    "DDIMScheduler": [
        {}, VELOCITY, {"set_alpha_to_one": False}, ZERO_SNR, COSINE, TRAINED, *SPACINGS,
        {"num_train_timesteps": 2000}, CLIPPED, {**CLIPPED, **VELOCITY}, UNFORCED,
    ],
    "DDPMScheduler": [{}, VELOCITY, *SPACINGS, CLIPPED, UNFORCED],
    "PNDMScheduler": [
        {}, VELOCITY, {"set_alpha_to_one": True}, *SPACINGS, {"steps_offset": 0},
        ZERO_SNR,
    ],
    "EulerDiscreteScheduler": [
        {}, VELOCITY, KARRAS, EXPONENTIAL, {"final_sigmas_type": "sigma_min"}, ZERO_SNR, *SPACINGS,
        {"timestep_spacing": "leading", "steps_offset": 0},
    ],
    "EulerAncestralDiscreteScheduler": [{}, VELOCITY, ZERO_SNR, *SPACINGS],
    "HeunDiscreteScheduler": [{}, VELOCITY, KARRAS, EXPONENTIAL, *SPACINGS, CLIPPED, ZERO_SNR],
    "DPMSolverMultistepScheduler": [
        {}, VELOCITY, KARRAS, EXPONENTIAL, *SPACINGS,
        {"solver_order": 1}, {"solver_order": 3}, {"solver_type": "heun"},
        {"algorithm_type": "sde-dpmsolver++"},
        {"algorithm_type": "sde-dpmsolver++", **KARRAS, "solver_order": 3},
        {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
        {"euler_at_final": True}, {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min"}, {**COSINE, "lambda_min_clipped": -5.1}, ZERO_SNR,
    ],
    "UniPCMultistepScheduler": [
        {}, VELOCITY, KARRAS, EXPONENTIAL, *SPACINGS,
        {"solver_order": 1}, {"solver_order": 3}, {"solver_order": 3, **VELOCITY, **KARRAS},
        {"solver_type": "bh1", **SIGMA_MIN}, {"solver_type": "bh1", "solver_order": 3, **SIGMA_MIN},
        {"predict_x0": False, **SIGMA_MIN}, {"predict_x0": False, "solver_order": 3, **SIGMA_MIN},
        {"predict_x0": False, "solver_type": "bh1", **VELOCITY, **SIGMA_MIN},
        {"lower_order_final": False, **SIGMA_MIN}, {"disable_corrector": [0, 1, 5]},
        {"lower_order_final": False, "solver_order": 3, **SIGMA_MIN}, {**KARRAS, **SIGMA_MIN},
        COSINE, ZERO_SNR,
    ],
    "LCMScheduler": [{}, VELOCITY, {"original_inference_steps": 100}, {"timestep_scaling": 5.0}, CLIPPED],
    "KDPM2DiscreteScheduler": [{}],
    "KDPM2AncestralDiscreteScheduler": [],
    "LMSDiscreteScheduler": [{}],
}  # fmt: skip

BY_SIZE = {"use_dynamic_shifting": True}

# Those of FLUX.1, which have no betas.
FLOW_CASES = [
    {}, {"shift": 3.0}, BY_SIZE, {**BY_SIZE, "time_shift_type": "linear"},
    {**BY_SIZE, "base_shift": 0.25, "max_shift": 2.0, "base_image_seq_len": 64},
    {"shift": 3.0, "shift_terminal": 0.02}, {"shift": 3.0, **KARRAS}, {**BY_SIZE, **EXPONENTIAL},
]  # fmt: skip
FLOW_TOKENS = 1024


def wave(offset: float) -> torch.Tensor:
    return (torch.arange(16, dtype=torch.float32) + offset).cos().view(1, 4, 2, 2)


def run(name: str, config: dict, steps: int, skipped: int) -> dict:
    module = __import__(getattr(diffusers, name).__module__, fromlist=["randn_tensor"])
    draws = 0

    def noise(*_arguments, **_options):
        nonlocal draws
        draws += 1
        return wave(draws)

    module.randn_tensor = noise
    # As the pipelines of Stable Diffusion do; those of XL leave the first two as they are.
    forced = {"steps_offset": 1, "clip_sample": False, "skip_prk_steps": True}
    whole = {**BETAS, **config}
    scheduler = getattr(diffusers, name).from_config({**forced, **whole})
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps
    latents = wave(0) * scheduler.init_noise_sigma
    if skipped:
        begin = skipped * scheduler.order
        timesteps = timesteps[begin:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        latents = scheduler.add_noise(wave(0.5), wave(0), timesteps[:1])
    for timestep in timesteps:
        model_input = scheduler.scale_model_input(latents, timestep)
        prediction = (model_input * 3 + timestep.float() / 200).sin() * 0.5
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    if name == "PNDMScheduler":
        whole = {**whole, "skip_prk_steps": True}
    return {
        "class": name,
        "config": whole,
        "steps": steps,
        "skipped": skipped,
        "timesteps": [round(float(timestep), 4) for timestep in timesteps],
        "initial": float(scheduler.init_noise_sigma),
        "result": [float(f"{number:.7g}") for number in latents.flatten()],
    }


def run_flow(config: dict, steps: int, skipped: int) -> dict:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**config)
    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    shift = calculate_shift(FLOW_TOKENS, *(scheduler.config[name] for name in names))
    # As the pipelines of FLUX.1 do.
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=shift)
    timesteps = scheduler.timesteps[skipped:]
    latents = wave(0)
    if skipped:
        scheduler.set_begin_index(skipped)
        latents = scheduler.scale_noise(wave(0.5), timesteps[:1], wave(0))
    for timestep in timesteps:
        prediction = (latents * 3 + timestep / 200).sin() * 0.5
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    return {
        "class": "FlowMatchEulerDiscreteScheduler",
        "config": config,
        "steps": steps,
        "skipped": skipped,
        "tokens": FLOW_TOKENS,
        "timesteps": [round(float(timestep), 4) for timestep in timesteps],
        "initial": 1.0,
        "result": [float(f"{number:.7g}") for number in latents.flatten()],
    }


def main() -> None:
    references = []
    for name, configs in CASES.items():
        for config in configs:
            references.append(run(name, config, 8, 0))
            references.append(run(name, config, 23, 0))
            if not config and not name.startswith(("KDPM2", "LMS")):
                references.append(run(name, config, 1, 0))
            if name == "PNDMScheduler":
                # It repeats a timestep at the start.
                references += [run(name, config, 10, skipped) for skipped in (1, 2)]
            # The engine cannot start LMS from a picture.
            if name != "LMSDiscreteScheduler":
                references.append(run(name, config, 10, 4))
    for config in FLOW_CASES:
        for steps, skipped in [(8, 0), (23, 0), (10, 4)]:
            references.append(run_flow(config, steps, skipped))
    TARGET.write_text("[\n" + ",\n".join(map(json.dumps, references)) + "\n]\n")
    print(f"{len(references)} references in {TARGET}")


if __name__ == "__main__":
    main()

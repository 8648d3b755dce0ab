"""What each flag of LMDeploy that quantizes is here, as data.

Source: `lmdeploy lite auto_awq -h`, `auto_gptq -h` and `smooth_quant -h` of LMDeploy 0.5.3 to 0.15.
"""

from collections.abc import Mapping

from deployer.lmdeploy.flags import DEVICES, DTYPES, MODEL, Flag

CALIBRATION: Mapping[str, Flag] = {
    **MODEL,
    "work-dir": Flag(key="quantize.out"),
    "calib-dataset": Flag(
        note="its own text, without pictures; here seeded pictures and text ship: quantize.samples"
    ),
    "calib-samples": Flag(key="quantize.num_samples"),
    "calib-seqlen": Flag(key="quantize.max_tokens", note="samples with more tokens are left out, not cut"),
    "batch-size": Flag(note="samples go through one by one", dead="without --search-scale"),
    "device": Flag(words=DEVICES),
    "dtype": Flag(words=DTYPES),
}
AUTO_AWQ: Mapping[str, Flag] = {
    **CALIBRATION,
    "w-bits": Flag(words={"4": ""}, note="AWQ has 4 bits"),
    "w-group-size": Flag(key="quantize.group_size"),
    "w-sym": Flag(
        arity="switch", note="AWQ is written with zero points", dead="but in the metadata it writes"
    ),
    "search-scale": Flag(arity="switch", key="quantize.search"),
}
AUTO_GPTQ: Mapping[str, Flag] = {
    **CALIBRATION,
    "batch-size": Flag(note="samples go through one by one"),
    "w-bits": Flag(words={"4": ""}, note="GPTQ has 4 bits here"),
    "w-group-size": Flag(key="quantize.group_size"),
    "w-sym": Flag(arity="switch", note="LMDeploy writes no zero points either way; nor does this command"),
}
SMOOTH_QUANT: Mapping[str, Flag] = {
    **CALIBRATION,
    "search-scale": Flag(arity="switch", note="the strength of each layer is searched for anyway"),
    "quant-dtype": Flag(
        words={
            "int8": "quantization=smooth_quant",
            "fp8": "quantization=fp8",
            "float8_e4m3fn": "quantization=fp8",
        }
    ),
}

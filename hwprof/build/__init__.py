"""The build pipeline: from a space and a backend to a sealed table."""

from hwprof.build.options import BuildOptions
from hwprof.build.pipeline import BuildReport, build_lut
from hwprof.build.plan import Plan, make_plan, plan_of

__all__ = ["BuildOptions", "BuildReport", "Plan", "build_lut", "make_plan", "plan_of"]

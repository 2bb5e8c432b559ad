"""Interstitial pressure against closed forms, the radial scheme, fluid balance and symmetry."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.grid import Grid
from ..domain.keys import generator
from ..physics.faces import Faces, assemble
from ..physics.interstitium import Interstitium
from ..physics.pressure import Boundary, Flow, interstitial_flow, point_infusion
from .gci import observed_orders
from .registry import Result, check, largest
from .spheres import Sphere

RADIUS = 4.0
#: Values at these points to the digits given in the sources' tables (R = 0.4 cm, no lymphatics).
ISOLATED = {0.0: 11.499864, 0.9: 8.570628}
EMBEDDED = {1.0: 10.970384, 1.5: 6.595790}


def ball(h: float, reach: float, embedded: bool) -> Faces:
    """A sphere of 4 mm on voxels of ``h`` mm, centred on a corner of voxels, in a cube or alone."""
    n = 2 * round(reach * RADIUS / h)
    c = (np.arange(n) - n / 2 + 0.5) * h
    inside = (c[:, None, None] ** 2 + c[None, :, None] ** 2 + c[None, None, :] ** 2) < RADIUS**2
    labels = np.where(inside, 1, 2)
    mask = np.ones_like(inside) if embedded else inside
    return assemble(Grid((n, n, n), (h, h, h)), mask, labels, {"tumour": 1, "normal": 2})


def distance(faces: Faces) -> np.ndarray:
    """Of the active cells from the middle of the grid, mm."""
    h = np.asarray(faces.grid.spacing)
    centre = 0.5 * (np.array(faces.grid.shape) - 1) * h
    return np.asarray(np.sqrt(((faces.grid.points(faces.mask) - centre) ** 2).sum(axis=1)))


def uniform(faces: Faces, sphere: Sphere) -> Interstitium:
    """The sphere's two tissues, no lymphatics."""
    inside = faces.label == 0

    def of(a: float, b: float) -> np.ndarray:
        return np.where(inside, a, b)

    none = np.zeros(faces.n)
    k, b, p = of(sphere.k_t, sphere.k_n), of(sphere.b_t, sphere.b_n), of(sphere.p_t, sphere.p_n)
    return Interstitium(faces, k, b, p, none, none)


def voxel_sphere(h: float, embedded: bool, subgrid: bool = False) -> tuple[Faces, Flow]:
    """Pressure of the sphere on voxels."""
    faces = ball(h, 1.75 if embedded else 1.25, embedded)
    boundary = Boundary(array="far") if embedded else Boundary(mask=0.0)
    return faces, interstitial_flow(uniform(faces, Sphere.of_library(RADIUS)), boundary, subgrid=subgrid)


@check(
    "pressure.sphere.closed",
    "The closed forms give the published pressures of a sphere, alone and in normal tissue",
    "p(0), p(0.9 R) alone and p(R), p(1.5 R) embedded to the six decimals published",
    "Baxter & Jain 1989 with the library's tissues",
)
def closed(quick: bool) -> Result:
    """Four numbers."""
    sphere = Sphere.of_library(RADIUS)
    alone = {x: float(sphere.isolated(np.array(x * RADIUS))) for x in ISOLATED}
    inside = {x: float(sphere.embedded(np.array(x * RADIUS))) for x in EMBEDDED}
    worst = largest(abs(alone[x] - p) for x, p in ISOLATED.items())
    worst = largest((worst, *(abs(inside[x] - p) for x, p in EMBEDDED.items())))
    return worst < 6e-7, {"isolated_mmHg": alone, "embedded_mmHg": inside, "largest_difference_mmHg": worst}


@check(
    "pressure.sphere.radial",
    "A radial finite-volume scheme converges to the embedded sphere at second order",
    "order 2 within 0.1 on the finest of five grids, largest error at 800 cells below 5e-4 mmHg; its rim flow within 1e-3",
    "closed form of Baxter & Jain 1989",
)
def radial(quick: bool) -> Result:
    """50 to 800 shells out to twice the radius."""
    sphere = Sphere.of_library(RADIUS)
    sizes, errors, alone = [50, 100, 200, 400, 800], [], []
    for n in sizes:
        r, p, outflow = sphere.radial(n, 5.0)
        errors.append(float(np.abs(p - sphere.embedded(r)).max()))
        r, p, _ = sphere.radial(n, 1)
        alone.append(float(np.abs(p - sphere.isolated(r)).max()))
    orders = [observed_orders([1.0 / n for n in sizes], e) for e in (errors, alone)]
    flow = outflow / sphere.rim_outflow - 1.0
    passed = all(abs(o[-1] - 2.0) <= 0.1 for o in orders) and alone[-1] < 5e-4 and abs(flow) < 1e-3
    return passed, {
        "shells": sizes, "embedded_error_mmHg": errors, "isolated_error_mmHg": alone,
        "order_embedded": orders[0], "order_isolated": orders[1], "rim_flow_error": flow,
    }  # fmt: skip


@check(
    "pressure.sphere.voxel",
    "On voxels the spheres converge, at the order a staircase allows, which is measured and not called two",
    "mean errors fall at every refinement; mean error at h = 0.25 mm below 0.01 mmHg embedded, 0.2 alone",
    "closed form of Baxter & Jain 1989",
    factor="discretization_error",
)
def voxel(quick: bool) -> Result:
    """Voxels of 1 to 0.25 mm."""
    sphere = Sphere.of_library(RADIUS)
    sizes = [1.0, 0.5, 1.0 / 3.0, 0.25]
    result: dict[str, Any] = {"voxel_mm": sizes}
    good = True
    for name, embedded, most in (("embedded", True, 0.01), ("isolated", False, 0.2)):
        exact = sphere.embedded if embedded else sphere.isolated
        errors = []
        for h in sizes:
            faces, flow = voxel_sphere(h, embedded)
            errors.append(float(np.abs(flow.pressure - exact(distance(faces))).mean()))
        orders = observed_orders(sizes, errors)
        good &= bool((np.diff(errors) < 0).all() and errors[-1] < most)
        result |= {f"{name}_mean_error_mmHg": errors, f"{name}_order": orders}
    return good, result


@check(
    "pressure.rim",
    "Where voxels are coarser than the pressure layer the sub-grid fluxes carry the fluid across the rim",
    "outflow of the embedded sphere within 20 % of the refined one at voxels of 2 and 1 mm and nearer than plain differences, "
    "within 8 % at 0.5 mm",
    "radial scheme on 4000 shells",
    factor="discretization_error",
)
def rim(quick: bool) -> Result:
    """The pressure layers are 0.27 and 0.58 mm."""
    sphere = Sphere.of_library(RADIUS)
    refined = sphere.radial(4000, 2.5)[2]
    sizes = [2.0, 1.0, 0.5] if quick else [2.0, 1.0, 0.5, 0.25]
    found: dict[str, list[float]] = {"plain": [], "subgrid": []}
    for h in sizes:
        for name, flag in (("plain", False), ("subgrid", True)):
            faces, flow = voxel_sphere(h, True, flag)
            out = flow.filtered[faces.label == 0].sum() * faces.grid.voxel_volume
            found[name].append(float(out / refined - 1.0))
    sub, plain = np.abs(found["subgrid"]), np.abs(found["plain"])
    passed = bool((sub[:2] < 0.2).all() and (sub[:2] < plain[:2]).all() and sub[2] < 0.08)
    return passed, {"voxel_mm": sizes, **{f"outflow_error_{k}": v for k, v in found.items()}}


def rough_interstitium(faces: Faces) -> Interstitium:
    """Random maps over two decades, lymphatics in half of the cells."""
    rng = generator(13, "verification", "interstitium")
    return Interstitium(
        faces,
        0.01 * 100.0 ** rng.random(faces.n),
        0.02 * 100.0 ** rng.random(faces.n),
        12.0 * rng.random(faces.n),
        np.where(rng.random(faces.n) < 0.5, 0.3 * rng.random(faces.n), 0.0),
        2.0 * rng.random(faces.n),
    )


def ragged(shape: tuple[int, int, int] = (13, 11, 9)) -> tuple[Faces, np.ndarray]:
    """A ragged mask on voxels that are not cubes, three labels outside it."""
    rng = generator(13, "verification", "ragged")
    mask = rng.random(shape) < 0.85
    labels = rng.integers(1, 3, shape)
    outside = rng.integers(7, 10, shape)
    return assemble(Grid(shape, (1.0, 1.3, 2.1)), mask, labels, {"a": 1, "b": 2}), outside


@check(
    "pressure.balance",
    "Fluid is conserved in every voxel and as a whole, with every kind of edge, lymphatics and an infusion",
    "largest imbalance of a voxel below 1e-9 of the largest term, of the whole below 1e-10",
    "conservation of mass",
)
def balance(quick: bool) -> Result:
    """Random maps on a ragged mask."""
    faces, outside = ragged()
    boundary = Boundary(array="far", mask=3.0, labels={7: None, 8: 1.0}, outside=outside)
    at = faces.grid.points(faces.mask)[faces.n // 2]
    q = point_infusion(faces, (float(at[0]), float(at[1]), float(at[2])), 5.0)
    result: dict[str, Any] = {}
    for name, subgrid in (("plain", False), ("subgrid", True)):
        flow = interstitial_flow(rough_interstitium(faces), boundary, q, subgrid)
        gain = [flow.filtered, flow.infused, flow.inflow, -flow.drained, -flow.outflow]
        size = sum(float(np.abs(x).sum()) for x in gain)
        result[f"voxel_{name}"] = flow.residual
        result[f"whole_{name}"] = abs(float(sum(x.sum() for x in gain))) / size
        result[f"outflow_{name}"] = float(flow.outflow.sum())
    passed = all(result[f"voxel_{k}"] < 1e-9 and result[f"whole_{k}"] < 1e-10 for k in ("plain", "subgrid"))
    return passed and result["outflow_plain"] > 0, result


@check(
    "pressure.invariance",
    "Pressure does not depend on the order of the axes nor on the unit of length or time",
    "largest difference below 1e-8 mmHg",
    "symmetry of the equations",
)
def invariance(quick: bool) -> Result:
    """Axes turned; lengths in cm; times in s."""
    faces, outside = ragged()
    tissue = rough_interstitium(faces)
    base = interstitial_flow(tissue, Boundary("far", 3.0, {7: None}, outside)).pressure
    order = (2, 1, 0)
    labels = np.zeros(faces.mask.shape, int)
    labels[faces.mask] = faces.label + 1
    turned = assemble(
        Grid(tuple(faces.grid.shape[i] for i in order), tuple(faces.grid.spacing[i] for i in order)),  # type: ignore[arg-type]
        faces.mask.transpose(order), labels.transpose(order), {"a": 1, "b": 2},
    )  # fmt: skip

    def turn(values: np.ndarray) -> np.ndarray:
        return turned.gather(faces.scatter(values).transpose(order))

    maps = (
        tissue.conductivity,
        tissue.filtration,
        tissue.effective_pressure,
        tissue.drainage,
        tissue.lymph_pressure,
    )
    other = interstitial_flow(
        Interstitium(turned, *(turn(m) for m in maps)),
        Boundary("far", 3.0, {7: None}, outside.transpose(order)),
    ).pressure
    x, y, z = faces.grid.spacing
    small = Grid(faces.grid.shape, (0.1 * x, 0.1 * y, 0.1 * z))
    cm = assemble(small, faces.mask, labels, {"a": 1, "b": 2})
    scaled = Interstitium(cm, maps[0] / 100.0 / 3600.0, maps[1] / 3600.0, maps[2], maps[3] / 3600.0, maps[4])
    units = interstitial_flow(scaled, Boundary("far", 3.0, {7: None}, outside)).pressure
    result = {
        "axes_mmHg": float(np.abs(other - turn(base)).max()),
        "units_mmHg": float(np.abs(units - base).max()),
    }
    return largest(result.values()) < 1e-8, dict(result)


@check(
    "pressure.infusion",
    "A point infusion into uniform tissue raises the pressure as in an infinite medium",
    "order 2 within 0.2 on the finest of four grids, error at h = 0.5 mm below 2 % of the rise 6 mm away",
    "p - p_n = Q exp(-r/L)/(4 pi K r)",
)
def infusion(quick: bool) -> Result:
    """L = 2 mm, compared 6 mm from the catheter."""
    k, layer, rate = 0.05, 2.0, 60.0
    sizes = [1.5, 1.0, 0.75, 0.5]
    at = np.array([6.0])  # a node of every grid, along an axis
    exact = 5.0 + rate * np.exp(-at / layer) / (4.0 * np.pi * k * at)
    errors = []
    for h in sizes:
        n = 2 * round(12.0 / h) + 1
        faces = assemble(
            Grid((n, n, n), (h, h, h)), np.ones((n, n, n), bool), np.ones((n, n, n), int), {"a": 1}
        )
        one = np.ones(faces.n)
        tissue = Interstitium(faces, k * one, k / layer**2 * one, 5.0 * one, 0.0 * one, 0.0 * one)
        middle = 0.5 * (n - 1) * h
        flow = interstitial_flow(tissue, Boundary(array="far"), point_infusion(faces, (middle,) * 3, rate))
        field = faces.scatter(flow.pressure)
        found = [float(field[(n - 1) // 2 + round(x / h), (n - 1) // 2, (n - 1) // 2]) for x in at]
        errors.append(float(np.abs(np.array(found) - exact).max()))
    orders = observed_orders(sizes, errors)
    near = float(exact[0] - 5.0)
    passed = abs(orders[-1] - 2.0) <= 0.2 and errors[-1] < 0.02 * near
    return passed, {
        "voxel_mm": sizes,
        "largest_error_mmHg": errors,
        "order": orders,
        "rise_at_6_mm_mmHg": near,
    }

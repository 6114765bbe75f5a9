"""Imports MuJoCo with an off-screen OpenGL that works on this machine.

`MUJOCO_GL` counts only before the first `import mujoco`, so everything here imports it as
`from efficientvla_ros.simulation.backend import mujoco`.
"""

from __future__ import annotations

import ctypes
import os
import sys

from efficientvla_ros.types import InputError

_PACKAGES = {
    'egl': 'libegl1 libegl-mesa0 libgl1-mesa-dri',
    'osmesa': 'libosmesa6',
}
_PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT


class RenderingError(InputError):
    """No off-screen OpenGL was found; the message names the packages to install."""

    def __init__(self, detail: str = '') -> None:
        super().__init__(
            'off-screen rendering needs EGL or OSMesa: install the Debian packages '
            f'"{_PACKAGES["egl"]}" (preferred) or "{_PACKAGES["osmesa"]}"'
            + (f' ({detail})' if detail else '')
        )


def _egl_works() -> bool:
    """Whether an EGL device can be initialised without a display."""
    try:
        egl = ctypes.CDLL('libEGL.so.1')
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    query = egl.eglGetProcAddress(b'eglQueryDevicesEXT')
    display = egl.eglGetProcAddress(b'eglGetPlatformDisplayEXT')
    if not query or not display:
        return False
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(query)
    display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(
        display
    )
    egl.eglInitialize.argtypes = [ctypes.c_void_p] * 3
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int(0)
    if not query(16, devices, ctypes.byref(count)):
        return False
    shown = [display(_PLATFORM_DEVICE, devices[i], None) for i in range(count.value)]
    return any(item and egl.eglInitialize(item, None, None) for item in shown)


def _osmesa_works() -> bool:
    for name in ('libOSMesa.so.8', 'libOSMesa.so.6', 'libOSMesa.so'):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def choose_backend() -> str | None:
    """Returns 'egl', 'osmesa' or, where neither works, None."""
    if _egl_works():
        return 'egl'
    return 'osmesa' if _osmesa_works() else None


def _import_mujoco():
    if 'mujoco' not in sys.modules and 'MUJOCO_GL' not in os.environ and sys.platform == 'linux':
        backend = choose_backend()
        if backend is None:
            raise RenderingError
        os.environ['MUJOCO_GL'] = backend
        # Child processes inherit both; PyOpenGL must not pick a platform of its own.
        os.environ.setdefault('PYOPENGL_PLATFORM', backend)
    try:
        import mujoco
    except (ImportError, AttributeError) as error:
        if (os.environ.get('MUJOCO_GL') or '').lower() in _PACKAGES:
            detail = f'MUJOCO_GL={os.environ["MUJOCO_GL"]}: {error}'
            raise RenderingError(detail) from error
        raise
    return mujoco


mujoco = _import_mujoco()

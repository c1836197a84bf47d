"""Metadata of ProcessedPiRecorder. Tool settings live in pyproject.toml, the version in _version.py."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version():
    found = {}
    exec((HERE / 'ProcessedPiRecorder' / '_version.py').read_text(encoding='utf-8'), found)
    return found['__version__']


# zlib-ng publishes wheels for these machines only; building it elsewhere needs a compiler and cmake, and the
# standard library's zlib does the same work, only slower.
HAS_ZLIB_NG_WHEEL = ('platform_python_implementation == "CPython" and '
                     '(platform_machine == "x86_64" or platform_machine == "aarch64")')
ON_A_PI = '(platform_machine == "armv6l" or platform_machine == "armv7l" or platform_machine == "aarch64")'

# What people do with a recording afterwards; a machine that only records needs none of it.
AFTERWARDS = {
    'plot': ['matplotlib>=3.6'],
    'export': ['av>=13.0'],
    'nwb': ['pynwb>=2.8', 'av>=13.0'],
    'tables': ['pandas>=1.5', 'pyarrow>=12.0'],
    # 2024.8.0 is the last one for Python 3.9; told so, an old pip need not try all the others.
    'cluster': [f'{package}{versions}' for package in ('dask[array]', 'distributed')
                for versions in ('>=2023.5; python_version >= "3.10"', '==2024.8.0; python_version < "3.10"')],
}
ANALYSIS = sorted({package for packages in AFTERWARDS.values() for package in packages})

# Independent readers of what is recorded and exported, and what runs the notebook.
JUDGES = ['nwbinspector>=0.5', 'bioio-ome-tiff>=1.0; python_version >= "3.10"', 'nbclient>=0.8', 'ipykernel>=6.20']


def on_64_bits(requirement):
    """There are no wheels of most of these for 32-bit machines; the tests that need them skip there, and say so."""
    package, _, marker = requirement.partition(';')
    machine = '(platform_machine == "x86_64" or platform_machine == "aarch64")'
    return f'{package}; {machine}' + (f' and {marker.strip()}' if marker else '')


setup(
    name='ProcessedPiRecorder',
    version=version(),
    description='Record Raspberry Pi cameras at high rates through a computer-vision callback, '
                'losslessly, with proof that nothing was lost',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='ProcessedPiRecorder contributors',
    license='MIT',
    packages=find_packages(include=['ProcessedPiRecorder', 'ProcessedPiRecorder.*']),
    package_data={'ProcessedPiRecorder': ['py.typed']},
    zip_safe=False,
    python_requires='>=3.9',
    install_requires=[
        'numpy>=1.20',
        # OpenCV 5 ships no cascade files, and 4.5 reads no BigTIFF.
        'opencv-contrib-python>=4.6,<5',
        'tifffile>=2024.8',
        'imageio>=2.22',
        'cloudpickle>=2.0',
        'typer>=0.12',
        'rich>=13.0',
        f'zlib-ng>=0.5; {HAS_ZLIB_NG_WHEEL}',
    ],
    extras_require={
        'picamera': [f'picamera==1.13; sys_platform == "linux" and {ON_A_PI}'],
        # Later ones than 0.3.30 say that they run on Python 3.9, and do not.
        'picamera2': [f'picamera2>=0.3.12,<=0.3.30; python_version < "3.10" and sys_platform == "linux" and {ON_A_PI}',
                      f'picamera2>=0.3.12; python_version >= "3.10" and sys_platform == "linux" and {ON_A_PI}'],
        **AFTERWARDS,
        'napari': ['napari[all]>=0.4.19'],
        'analysis': ANALYSIS,
        'test': ['pytest>=8.0', 'pytest-timeout>=2.3', 'hypothesis>=6.100', 'psutil>=5.9', 'Pillow>=9.0',
                 *map(on_64_bits, [*ANALYSIS, *JUDGES])],
        'dev': ['ruff>=0.6', 'mypy>=1.11'],
        # What the recorder is measured beside, and what draws the figures.
        'bench': ['matplotlib>=3.6', 'imageio-ffmpeg>=0.5', 'imagecodecs>=2023.3', 'vidgear>=0.3.3',
                  'ome-writers[tifffile]>=0.1; python_version >= "3.10"'],
    },
    entry_points={'console_scripts': ['ppr = ProcessedPiRecorder.cli:main']},
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Multimedia :: Video :: Capture',
        'Topic :: Scientific/Engineering :: Image Processing',
        'Typing :: Typed',
    ],
)

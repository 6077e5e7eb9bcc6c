"""What Potstill costs on this machine: `python -m benchmarks` measures, prints, and writes `results/<machine>.json`.

A measurement is one function that answers a `Table`, in a file of its own, named in `benchmarks/__main__.py`.
"""

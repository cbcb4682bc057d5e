"""Sparse products while Python ends, and PyTorch's settings in a process that is forked."""

import subprocess
import sys

import pytest

ENDING = """
import {when}, threading, time
import numpy as np
import scipy.sparse as sp
import eckart

A = sp.csr_array(sp.random(2000, 1000, 0.15, random_state=0))
expected = eckart.truncated_svd(A, 2).S

def again():
    found = eckart.truncated_svd(A, 2).S
    print("same" if np.array_equal(found, expected) else "others", flush=True)

def after_main():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    again()

{start}
"""

FORKED = """
import os, threading
import torch
import eckart
from eckart import operator

torch.backends.fp32_precision = "tf32"
torch.backends.cuda.matmul.fp32_precision = "tf32"
torch.backends.mkldnn.matmul.fp32_precision = "bf16"
torch.set_num_threads(1)
inside, done = threading.Event(), threading.Event()

def settings():
    return [torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision]

def child(expected):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if settings() == expected else 1)
    return os.waitpid(pid, 0)[1]

def slow(X):
    inside.set()
    done.wait()
    return X

def multiply():
    with torch.no_grad():
        operator((3, 3), slow, lambda X: X, like=torch.ones(3))

thread = threading.Thread(target=multiply)
thread.start()
inside.wait()
assert settings() == ["ieee", "ieee"]
# The child has not got the thread that multiplies, nor will anyone put its settings back.
failed = child(["tf32", "bf16"])
done.set()
thread.join()
assert settings() == ["tf32", "bf16"]

def forks(X):
    assert child(["ieee", "ieee"]) == 0  # it goes on multiplying
    return X

operator((3, 3), forks, lambda X: X, like=torch.ones(3))
assert settings() == ["tf32", "bf16"]
print("wrong" if failed else "same")
"""


def run(program):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.numpy_only
@pytest.mark.parametrize(
    ("when", "start"),
    [
        ("threading", "threading.Thread(target=after_main).start()"),
        ("atexit", "atexit.register(again)"),
    ],
    ids=["thread", "atexit"],
)
def test_sparse_products_need_no_new_threads(when, start):
    """After the main thread has ended Python starts none: the products are the same in one."""
    done = run(ENDING.format(when=when, start=start))
    assert done.stdout == "same\n", done.stderr


@pytest.mark.only("torch")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_fork_during_a_product_leaves_the_child_the_settings_of_its_user():
    """Those that are pinned for a product are put back where its thread does not exist."""
    done = run(FORKED)
    assert done.stdout == "same\n", done.stderr

"""One of several processes of a run, which ends or is stopped by signals; test_processes starts them."""

import sys
import time

import jax


def main(process, count, port, folder, devices, steps):
    jax.config.update("jax_num_cpu_devices", int(devices))
    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", num_processes=count, process_id=process)
    import small_run

    from jaxembed.train.peers import Peers

    Peers.SILENT = 6.0  # a test does not wait for a minute

    class Slow(small_run.Batches):
        """This process's rows of each batch, a little later than the other processes' from time to time."""

        def __getitem__(self, t):
            time.sleep(0.02 + 0.03 * ((t + process) % 2))
            share = 16 // count
            return {k: v[process * share : (process + 1) * share] for k, v in super().__getitem__(t).items()}

    small_run.run(steps=int(steps), batches=Slow(), workdir=folder, save_every=5)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])

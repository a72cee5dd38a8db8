"""BTC change detection: Rolih et al., "Be the Change You Want to See", TGRS 2025, doi 10.1109/TGRS.2025.3585342.

Only modules in this folder import torch.
"""

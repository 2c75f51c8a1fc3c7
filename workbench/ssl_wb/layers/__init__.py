"""Small pieces that backbones, predictors and objectives share. Plugins reach them through ``ssl_wb.api``."""
